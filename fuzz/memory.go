package fuzz

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"unsafe"
)

// Memory is a few pages between two that fault on any access. Where the system has no such pages,
// there are canaries in their place.
type Memory struct {
	words      []uint32 // all that may be touched
	head, tail int      // the part of words where matrices may lie
}

// Map returns Memory for at least that many floats; it lasts as long as the test.
func Map(t testing.TB, floats int) *Memory {
	t.Helper()
	page := os.Getpagesize() / 4
	m, unmap, err := mapPages((floats+page-1)/page, page)
	if err != nil {
		t.Fatalf("mapping guarded memory: %v", err)
	}
	t.Cleanup(func() {
		if err := unmap(); err != nil {
			t.Errorf("unmapping guarded memory: %v", err)
		}
	})
	return m
}

// Place says where in its [Memory] a matrix lies. A Place of 0 or more is the number of floats between the
// page that faults at the head and the matrix: at 0 an access left of the matrix faults.
type Place int

const (
	// Tail is flush against the page that faults behind the memory: an access right of the matrix faults.
	Tail Place = -1
	// Outside is in that page: every access faults. Only a [Guarded] system has it.
	Outside Place = -2
)

// Buffer is a matrix of float32 that knows whether anything but its elements was written: on both
// sides of it, and between the end of a row and the next, lie canaries. Each is a signalling NaN of
// its own, so that reading one spoils the result and copying one to another place shows.
type Buffer struct {
	Name               string
	Rows, Cols, Stride int
	first              *float32
	words, sealed      []uint32 // the matrix and its margins; and as they were at Seal
	lead               int      // words before the matrix
}

// margin is how many words on each side of a matrix are canaries: more than a panel and two vectors.
const margin = 128

// Place returns a matrix in m. Of its content only the canaries are set. It replaces whatever was placed in m before.
func (m *Memory) Place(name string, at Place, rows, cols, stride int) *Buffer {
	b := &Buffer{Name: name, Rows: rows, Cols: cols, Stride: stride}
	start := m.head + int(at)
	switch at {
	case Tail:
		start = m.tail - b.extent()
	case Outside:
		b.first = m.at(m.tail)
		return b
	}
	end := start + b.extent()
	if start < m.head || end > m.tail {
		panic(fmt.Sprintf("fuzz: %s does not fit: %d words in memory for %d", b, end-start, m.tail-m.head))
	}
	b.first = m.at(start)
	from, to := max(start-margin, 0), min(end+margin, len(m.words))
	b.words, b.lead = m.words[from:to:to], start-from
	for i := range b.words {
		b.words[i] = canary(&b.words[i])
	}
	return b
}

func (m *Memory) at(word int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(m.words)), 4*word))
}

// canary is a signalling NaN with the address for a payload.
func canary(at *uint32) uint32 {
	const payloads = 1<<22 - 1 // all but 0, which is Inf
	return 0x7f800001 + uint32(uintptr(unsafe.Pointer(at))/4%payloads)
}

// extent is the number of words from the first element to behind the last.
func (b *Buffer) extent() int {
	if b.Rows == 0 || b.Cols == 0 {
		return 0
	}
	return (b.Rows-1)*b.Stride + b.Cols
}

func (b *Buffer) String() string {
	return fmt.Sprintf("%s (%dx%d/%d)", b.Name, b.Rows, b.Cols, b.Stride)
}

// Ptr returns the address of the first element, also where there is none.
func (b *Buffer) Ptr() *float32 { return b.first }

// Row returns one row. Its memory goes with the test's.
func (b *Buffer) Row(r int) []float32 {
	if b.words == nil || b.Cols == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b.words[b.lead+r*b.Stride])), b.Cols)
}

// Fill sets every element, row by row.
func (b *Buffer) Fill(next func() float32) {
	for r := range b.Rows {
		row := b.Row(r)
		for i := range row {
			row[i] = next()
		}
	}
}

// Elements returns a copy of all elements, row by row.
func (b *Buffer) Elements() []float32 {
	var all []float32
	for r := range b.Rows {
		all = append(all, b.Row(r)...)
	}
	return all
}

// Seal remembers the matrix and its canaries for Restore, Intact and Unchanged.
func (b *Buffer) Seal() { b.sealed = append(b.sealed[:0], b.words...) }

// Restore brings back what was sealed.
func (b *Buffer) Restore() { copy(b.words, b.sealed) }

// Unchanged returns an error if anything was written, as for an input.
func (b *Buffer) Unchanged() error {
	if i := b.changed(func(r, c int) bool { return true }); i >= 0 {
		return fmt.Errorf("%s was written: %s is %#08x, was %#08x", b, b.element(i), b.words[i], b.sealed[i])
	}
	return nil
}

// Intact returns an error if anything but elements was written, as for an output.
func (b *Buffer) Intact() error {
	outside := func(r, c int) bool { return r < 0 || r >= b.Rows || c >= b.Cols }
	i := b.changed(outside)
	if i < 0 {
		return nil
	}
	where := "between the rows"
	switch {
	case i < b.lead:
		where = "left"
	case i >= b.lead+b.extent():
		where = "right"
	}
	return fmt.Errorf("overwrite %s of %s: %s is %#08x, was %#08x", where, b, b.element(i), b.words[i], b.sealed[i])
}

// changed returns the first word that was written and that counts, or -1.
func (b *Buffer) changed(counts func(r, c int) bool) int {
	if slices.Equal(b.words, b.sealed) {
		return -1
	}
	for i, w := range b.words {
		if w != b.sealed[i] && counts(b.position(i-b.lead)) {
			return i
		}
	}
	return -1
}

// position returns row and column of a word relative to the first element. Rows outside the matrix are negative
// or at least Rows.
func (b *Buffer) position(i int) (r, c int) {
	if i < 0 || b.extent() == 0 {
		return -1, i
	}
	if b.Rows == 1 {
		return 0, i
	}
	return i / b.Stride, i % b.Stride
}

// element names a word: x[3], and with more than one row x[1][3].
func (b *Buffer) element(i int) string {
	r, c := b.position(i - b.lead)
	if r < 0 || b.Rows == 1 {
		return fmt.Sprintf("%s[%d]", b.Name, c)
	}
	return fmt.Sprintf("%s[%d][%d]", b.Name, r, c)
}

// accessed returns, for the address of a fault, the index that was accessed relative to the first element, and
// whether the fault was in the pages around this matrix.
func (b *Buffer) accessed(address uintptr) (index int, ok bool) {
	page := os.Getpagesize()
	bytes := int(address - uintptr(unsafe.Pointer(b.first)))
	near := bytes >= -page && bytes < 4*b.extent()+page
	return bytes >> 2, near
}
