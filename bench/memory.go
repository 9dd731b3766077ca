package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"github.com/quern-go/quern/internal/measure"
	"github.com/quern-go/quern/internal/sysmem"
)

// A cold case reads its input from memory and not from a cache: it takes copies of the input in turn,
// which together are coldFactor times the last-level cache, or coldMost bytes if that is less. What
// streams as many bytes does the same, with the same copies or, where it cannot see them, with as much
// memory of its own.
const coldFactor = 4

var coldMost = math.MaxInt32 // but for tests

// llcDefault is the last-level cache of systems that do not tell: more than most have.
const llcDefault = 32 << 20

// coldBytes is how much memory cold cases go through before they read any of it again, at least.
func coldBytes() int { return min(lastLevelCache(), coldMost/coldFactor) * coldFactor }

// lastLevelCache is the size of the largest cache that the operating system knows of.
func lastLevelCache() int {
	most := 0
	if runtime.GOOS == "linux" {
		sizes, _ := filepath.Glob("/sys/devices/system/cpu/cpu0/cache/index*/size")
		for _, file := range sizes {
			text, _ := os.ReadFile(file)
			most = max(most, parseSize(string(text)))
		}
	}
	if most == 0 {
		return llcDefault
	}
	return most
}

// parseSize reads a size as Linux writes it, such as 48K; 0 if it is none.
func parseSize(text string) int {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "KMG")
	n, err := strconv.Atoi(digits)
	shift, ok := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}[text[len(digits):]]
	if err != nil || n < 0 || !ok {
		return 0
	}
	if n > math.MaxInt32>>shift {
		return math.MaxInt32
	}
	return n << shift
}

// ring is the copies of an input that a cold case takes in turn. There is one until grow is called, made
// when it is first taken.
type ring[T any] struct {
	bytes int // of a copy
	copy  func() T
	all   []T
	next  int
}

// take returns the copy whose turn it is.
func (r *ring[T]) take() T {
	if len(r.all) == 0 {
		r.all = append(r.all, r.copy())
	}
	x := r.all[r.next]
	r.next = (r.next + 1) % len(r.all)
	return x
}

// grow makes copies until they have so many bytes, and returns how many those are.
func (r *ring[T]) grow(bytes int) int {
	for len(r.all) == 0 || (bytes-1)/r.bytes >= len(r.all) {
		r.all = append(r.all, r.copy())
	}
	return len(r.all) * r.bytes
}

// shrink leaves one copy.
func (r *ring[T]) shrink() {
	clear(r.all[1:])
	r.all, r.next = r.all[:1], 0
}

// inputs is a ring, whatever it holds.
type inputs interface {
	grow(bytes int) int
	shrink()
}

// streamRing is [measure.Stream] for what a ring holds, seen as numbers: one copy a call.
func streamRing[T any](r *ring[T], workers int, see func(T) []float32) func(calls int) {
	return func(calls int) {
		for range calls {
			measure.Stream(see(r.take()), workers)(1)
		}
	}
}

// streamMemory streams bytes that are there for nothing else, in pages as those of a [kernel.Cache]. They grow
// with a case that reads as many.
func streamMemory(bytes, workers int) (*ring[[]float32], func(calls int)) {
	r := &ring[[]float32]{bytes: bytes, copy: func() []float32 {
		data := make([]float32, (bytes+255)/256*64)
		sysmem.AskLarge(data)
		fill(data, 1) // pages that were never written are all the same page of zeros
		return data
	}}
	return r, streamRing(r, workers, func(data []float32) []float32 { return data })
}

// words is data as float32, as far as there are whole ones.
func words[T any](data []T) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(data))), len(data)*int(unsafe.Sizeof(*new(T)))/4)
}
