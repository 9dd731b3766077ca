//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package fuzz

// Guarded reports whether an access outside a [Memory] faults.
const Guarded = false

func mapPages(pages, page int) (*Memory, func() error, error) {
	words := make([]uint32, (pages+2)*page)
	return &Memory{words, page, page * (pages + 1)}, func() error { return nil }, nil
}
