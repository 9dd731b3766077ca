// Package isa knows which instruction sets the program may use and which one it does use.
//
// A [Level] is a bundle of CPU features. The active level is the best that the CPU has, unless the
// environment variable QUERN_ISA forces another.
package isa

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// Level is an instruction set that every kernel exists for.
type Level uint32

// The levels. Go is the portable code and exists everywhere.
const (
	Go     Level = iota // portable Go
	AVX2                // AVX2, FMA, F16C, BMI2
	AVX512              // AVX2 and AVX-512 F, BW, DQ, VL
	NEON                // arm64 Advanced SIMD
)

var names = [...]string{Go: "go", AVX2: "avx2", AVX512: "avx512", NEON: "neon"}

// String returns the name that QUERN_ISA and QUERN_REQUIRE_ISA use.
func (l Level) String() string { return names[l] }

// Parse is the inverse of String.
func Parse(name string) (Level, bool) {
	for l, n := range names {
		if n == name {
			return Level(l), true
		}
	}
	return Go, false
}

// Environment variables.
const (
	ForceVariable   = "QUERN_ISA"         // one level to use instead of the best
	RequireVariable = "QUERN_REQUIRE_ISA" // levels that tests must not skip
)

// Unsupported reports a QUERN_ISA that was not obeyed.
type Unsupported struct {
	Value     string  // what the environment asked for
	Supported []Level // what this program has
}

func (e *Unsupported) Error() string {
	have := make([]string, len(e.Supported))
	for i, l := range e.Supported {
		have[i] = l.String()
	}
	return fmt.Sprintf("quern: %s=%q is not obeyed: this program and CPU have %s", ForceVariable, e.Value, strings.Join(have, ", "))
}

var (
	supported = append(detect(), Go)
	active    atomic.Uint32
	extended  atomic.Bool
	forced    error
)

func init() {
	level := supported[0]
	if want := os.Getenv(ForceVariable); want != "" {
		if l, ok := Parse(want); ok && Has(l) {
			level = l
		} else {
			forced = &Unsupported{Value: want, Supported: Supported()}
		}
	}
	active.Store(uint32(level))
	extended.Store(detectExtension())
}

// Supported lists the levels that this program and CPU have, best first. Go is always the last.
func Supported() []Level { return append([]Level(nil), supported...) }

// Has reports whether l is supported.
func Has(l Level) bool {
	for _, s := range supported {
		if s == l {
			return true
		}
	}
	return false
}

// Active returns the level in use.
func Active() Level { return Level(active.Load()) }

// Err returns an [*Unsupported] if QUERN_ISA was not obeyed.
func Err() error { return forced }

// Use makes l the active level, for tests that run every level in one process, and returns a
// function that goes back. It panics if l is not supported.
func Use(l Level) (restore func()) {
	if !Has(l) {
		panic("isa: level " + l.String() + " is not supported here")
	}
	old := active.Swap(uint32(l))
	return func() { active.Store(old) }
}

// Extended reports whether the CPU has the extension that some kernels have a second text for: VNNI,
// beside AVX512. It is no level, because nearly all kernels would be the same there, and because
// integers give the same bits with and without.
func Extended() bool { return extended.Load() }

// WithoutExtension makes Extended false, for tests, and returns a function that goes back.
func WithoutExtension() (restore func()) {
	old := extended.Swap(false)
	return func() { extended.Store(old) }
}
