package sysmem

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestWithin: whole pages only, and nothing outside of the memory.
func TestWithin(t *testing.T) {
	const page = 1 << 12
	memory := make([]float32, 3*page)
	first := uintptr(unsafe.Pointer(&memory[0]))
	for _, from := range []int{0, 1, 7, page / 4, page/4 + 1} {
		for n := 0; from+n <= len(memory); n += 511 {
			part := memory[from : from+n]
			pages := within(part, page)
			start, end := first+uintptr(4*from), first+uintptr(4*(from+n))
			whole := (int(end&^(page-1)) - int((start+page-1)&^(page-1))) / page * page
			require.Len(t, pages, max(whole, 0))
			if len(pages) > 0 {
				p := uintptr(unsafe.Pointer(&pages[0]))
				require.True(t, p%page == 0 && p >= start && p+uintptr(len(pages)) <= end)
			}
		}
	}
	require.Empty(t, within([]byte(nil), page))
}

// TestDiscard: what is around the whole pages stays, and the memory can be written again.
func TestDiscard(t *testing.T) {
	memory := make([]byte, 1<<20)
	for i := range memory {
		memory[i] = 1
	}
	Discard(memory[100 : len(memory)-100])
	for _, i := range []int{0, 99, len(memory) - 100, len(memory) - 1} {
		require.Equal(t, byte(1), memory[i])
	}
	for i := range memory {
		memory[i] = 2
	}
	require.NotContains(t, memory, byte(1))
	AskLarge(memory)
}
