package kernel

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/quern-go/quern/internal/isa"
)

// ArithmeticVersion names the specification that results follow bit for bit, ARITHMETIC.md. It
// changes whenever a bit of any result does.
const ArithmeticVersion = 1

// Version describes this build in one line, for reports of bugs: the version of the module as far as the
// program knows it, [ArithmeticVersion], the instruction set in use and those that could be, the platform,
// the version of Go, and [ISAError] if there is one.
//
//	quern v0.1.0, arithmetic 1, avx512+vnni of avx512 avx2 go, linux/amd64, go1.26.0
//
// It is for people to read: its form may change.
func Version() string {
	used := ISA()
	if isa.Active() == isa.AVX512 && isa.Extended() {
		used += "+vnni"
	}
	s := fmt.Sprintf("quern %s, arithmetic %d, %s of %s, %s/%s, %s", moduleVersion(), ArithmeticVersion,
		used, strings.Join(ISAs(), " "), runtime.GOOS, runtime.GOARCH, runtime.Version())
	if err := ISAError(); err != nil {
		s += ", " + err.Error()
	}
	return s
}

// moduleVersion is the version that the go command built this module from: of a dependency, or with the
// revision if it is the main module.
func moduleVersion() string {
	const path, unknown = "github.com/quern-go/quern", "of unknown version"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	for _, m := range info.Deps {
		if m.Path == path {
			if m.Replace != nil {
				return strings.TrimSpace(m.Version + " replaced by " + m.Replace.Path + " " + m.Replace.Version)
			}
			return m.Version
		}
	}
	if info.Main.Path != path || info.Main.Version == "" {
		return unknown
	}
	return info.Main.Version
}

// ISA returns the instruction set in use: "avx512", "avx2", "neon" or "go". It is the best that the
// CPU has unless the environment variable QUERN_ISA names another.
func ISA() string { return isa.Active().String() }

// ISAs returns the names that QUERN_ISA may have on this CPU, best first.
func ISAs() []string {
	var names []string
	for _, l := range isa.Supported() {
		names = append(names, l.String())
	}
	return names
}

// ISAError returns an error if QUERN_ISA names an instruction set that is unknown or that this CPU
// lacks. It is then not obeyed: a library must not panic because of its environment.
func ISAError() error { return isa.Err() }
