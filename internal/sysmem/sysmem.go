// Package sysmem tells the operating system how memory of the heap is used.
package sysmem

import "unsafe"

// within is the whole pages of a size, a power of two, that some memory has.
func within[T any](memory []T, page int) []byte {
	first := unsafe.Pointer(unsafe.SliceData(memory))
	skip := int(-uintptr(first) & uintptr(page-1))
	n := (len(memory)*int(unsafe.Sizeof(*new(T))) - skip) / page * page
	if n <= 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(first, skip)), n)
}
