package fuzz

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/quern-go/quern/internal/isa"
)

// levels are all that exist, whether or not this CPU has them: one that it lacks is a skipped
// subtest with a name, not silence.
var levels = []isa.Level{isa.Go, isa.AVX2, isa.AVX512, isa.NEON}

// Levels runs f as one subtest for each instruction set, with that one active. It skips those that this
// program and CPU do not have, but fails where QUERN_REQUIRE_ISA names one of them or QUERN_ISA was not
// obeyed. With QUERN_ISA it runs that one alone: what it is compared with is in the tests. The active level is the program's, so neither the test nor its subtests may be parallel.
func Levels(t *testing.T, f func(t *testing.T, level isa.Level)) {
	t.Helper()
	if err := isa.Err(); err != nil {
		t.Fatal(err)
	}
	for _, level := range isa.Supported() {
		if !slices.Contains(levels, level) {
			t.Fatalf("%s is missing from the list of levels", level)
		}
	}
	required := strings.FieldsFunc(os.Getenv(isa.RequireVariable), func(r rune) bool { return r == ',' || r == ' ' })
	for _, name := range required {
		if _, ok := isa.Parse(name); !ok {
			t.Fatalf("%s names %q, which does not exist", isa.RequireVariable, name)
		}
	}
	for _, level := range levels {
		t.Run(level.String(), func(t *testing.T) {
			switch {
			case isa.Has(level):
			case slices.Contains(required, level.String()):
				t.Fatalf("%s is not supported here, and %s requires it", level, isa.RequireVariable)
			default:
				t.Skipf("%s is not supported here", level)
			}
			if forced := os.Getenv(isa.ForceVariable); forced != "" && forced != level.String() {
				t.Skipf("%s=%s", isa.ForceVariable, forced)
			}
			defer isa.Use(level)()
			f(t, level)
			if active := isa.Active(); active != level {
				t.Errorf("%s is active at the end of a test of %s", active, level)
			}
		})
	}
}
