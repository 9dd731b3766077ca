package sysmem

import (
	"os"

	"golang.org/x/sys/unix"
)

// AskLarge asks for memory in large pages, where there are whole ones. Where much is read that lies far
// apart, looking up small pages takes longer than reading what is in them. That it may fail does not
// matter. It is of use before memory is first written.
func AskLarge[T any](memory []T) { advise(within(memory, 2<<20), unix.MADV_HUGEPAGE) }

// Discard lets the system have memory back whose content is not needed any more, as far as it has whole pages. The
// memory can be used again: it is 0 then, or what it was.
func Discard[T any](memory []T) { advise(within(memory, os.Getpagesize()), unix.MADV_DONTNEED) }

func advise(memory []byte, advice int) {
	if len(memory) > 0 {
		_ = unix.Madvise(memory, advice)
	}
}
