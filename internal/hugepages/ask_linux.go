// Package hugepages asks the operating system for memory in large pages.
package hugepages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ask asks for memory in large pages, where there are whole ones. Where much is read that lies far
// apart, looking up small pages takes longer than reading what is in them. That it may fail does not
// matter. It is of use before memory is first written.
func Ask[T any](memory []T) {
	const large = 2 << 20
	first := unsafe.Pointer(unsafe.SliceData(memory))
	skip := int(-uintptr(first) & (large - 1))
	n := (len(memory)*int(unsafe.Sizeof(*new(T))) - skip) / large * large
	if n > 0 {
		_ = unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(first, skip)), n), unix.MADV_HUGEPAGE)
	}
}
