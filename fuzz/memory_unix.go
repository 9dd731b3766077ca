//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package fuzz

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guarded reports whether an access outside a [Memory] faults.
const Guarded = true

func mapPages(pages, page int) (*Memory, func() error, error) {
	all, err := unix.Mmap(-1, 0, 4*page*(pages+2), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	unmap := func() error { return unix.Munmap(all) }
	inner := all[4*page : 4*page*(pages+1)]
	for _, guard := range [][]byte{all[:4*page], all[4*page*(pages+1):]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			_ = unmap() // the first error counts
			return nil, nil, err
		}
	}
	words := unsafe.Slice((*uint32)(unsafe.Pointer(&inner[0])), page*pages)
	return &Memory{words: words, tail: len(words)}, unmap, nil
}
