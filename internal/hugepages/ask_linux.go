// Package hugepages asks the operating system for memory in large pages.
package hugepages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ask asks for memory in large pages, where there are whole ones. Where much is read that lies far
// apart, looking up small pages takes longer than reading what is in them. That it may fail does not
// matter.
func Ask(memory []float32) {
	const large = 2 << 20
	first := unsafe.Pointer(unsafe.SliceData(memory))
	skip := int(-uintptr(first) & (large - 1))
	n := (4*len(memory) - skip) / large * large
	if n > 0 {
		_ = unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(first, skip)), n), unix.MADV_HUGEPAGE)
	}
}
