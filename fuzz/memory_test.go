package fuzz

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/quern-go/quern/internal/isa"
)

// write puts a number at an index relative to the first element, as a faulty kernel would.
func write(b *Buffer, index int, x float32) {
	*(*float32)(unsafe.Add(unsafe.Pointer(b.Ptr()), 4*index)) = x
}

func TestBufferReportsWrites(t *testing.T) {
	m := Map(t, 100)
	for _, c := range []struct {
		index             int
		intact, unchanged string
	}{
		{-1, "overwrite left of x (2x3/5): x[-1] is 0x3f800000", "x[-1] is"},
		{0, "", "x[0][0] is 0x3f800000, was 0x00000000"},
		{4, "overwrite between the rows of x (2x3/5): x[0][4] is", "x[0][4] is"},
		{7, "", "x[1][2] is"},
		{8, "overwrite right of x (2x3/5): x[1][3] is", "x[1][3] is"},
	} {
		b := m.Place("x", 20, 2, 3, 5)
		b.Fill(func() float32 { return 0 })
		b.Seal()
		for _, err := range []error{b.Intact(), b.Unchanged()} {
			if err != nil {
				t.Fatal(err)
			}
		}
		write(b, c.index, 1)
		expect(t, b.Intact(), c.intact)
		expect(t, b.Unchanged(), c.unchanged)
		b.Restore()
		expect(t, b.Unchanged(), "")
	}
}

func expect(t *testing.T, err error, text string) {
	t.Helper()
	if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
		t.Errorf("error is %v, want %q", err, text)
	}
}

func TestMemoryFaults(t *testing.T) {
	if !Guarded {
		t.Skip("no pages that fault on this system")
	}
	m := Map(t, 100)
	for _, c := range []struct {
		at    Place
		index int
	}{{0, -1}, {Tail, 8}, {Outside, 0}} {
		b := m.Place("x", c.at, 2, 3, 5)
		_, fault := recoverFault(isa.Go, func(isa.Level) float32 { write(b, c.index, 1); return 0 })
		if fault == nil {
			t.Errorf("place %d: x[%d] does not fault", c.at, c.index)
			continue
		}
		d := &draw{operands: []*operand{{Buffer: b}}}
		want := fmt.Sprintf("fault at x[%d], of 8", c.index)
		if runtime.GOARCH == "s390x" {
			want = "fault at x[" // it knows only the page
		}
		if got := d.explain(fault.err); !strings.HasPrefix(got, want) {
			t.Errorf("place %d: %s, want %s", c.at, got, want)
		}
	}
}

// TestCanaries: every one is a signalling NaN, so that reading it shows, and no two are equal, so that copying
// one shows.
func TestCanaries(t *testing.T) {
	seen := map[uint32]bool{}
	for range 2 {
		b := Map(t, 100).Place("x", 200, 1, 1, 1)
		b.Fill(func() float32 { return 0 })
		for i, w := range b.words {
			if i == b.lead {
				continue
			}
			if x := math.Float32frombits(w); x == x || w&(1<<22) != 0 {
				t.Errorf("%#08x is not a signalling NaN", w)
			}
			if seen[w] {
				t.Errorf("%#08x twice", w)
			}
			seen[w] = true
		}
	}
}
