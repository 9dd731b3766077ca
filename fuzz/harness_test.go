package fuzz

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/quern-go/quern/internal/isa"
)

// call runs a kernel at a level and returns its result, 0 if it has none.
type call func(isa.Level) float32

// offsets is how many positions behind the head a buffer is tried at: one for each lane.
const offsets = 16

// TestKernels holds every kernel at every level to the bits of isa.Go, for every size, with buffers flush
// against the guard at the tail, at the head, and at every offset from it. A failure names all that
// is needed to repeat it.
func TestKernels(t *testing.T) {
	Levels(t, func(t *testing.T, level isa.Level) {
		for _, k := range kernels {
			t.Run(k.name, func(t *testing.T) { testKernel(t, level, k) })
		}
	})
}

func testKernel(t *testing.T, level isa.Level, k kernel) {
	rounds, last := 2, Place(offsets-1)
	if race || testing.Short() {
		rounds, last = 1, 1
	}
	pool, seed := &pool{t: t}, uint64(0)
	for range rounds {
		for at := Tail; at <= last; at++ {
			for n := range k.most + 1 {
				seed++
				d := &draw{Source: NewSource(seed, 0), at: at, pool: pool}
				if err := d.compare(level, k.arguments(d, n)); err != nil {
					t.Fatalf("seed %d, place %d, size %d: %v\noperands (rows x columns / stride): %v", seed, at, n, err, d.operands)
				}
			}
		}
	}
}

// compare runs the call at isa.Go and then at level, and returns an error about the first thing that is not as it should.
func (d *draw) compare(level isa.Level, f call) error {
	want, err := d.run(isa.Go, f)
	if err != nil {
		return err
	}
	for _, o := range d.operands {
		if o.same != nil {
			o.want = o.Elements()
			o.Restore()
		}
	}
	got, err := d.run(level, f)
	if err != nil {
		return err
	}
	if !Same(got, want) {
		return differ("result", got, want)
	}
	for _, o := range d.operands {
		if o.same == nil {
			continue
		}
		for i, got := range o.Elements() {
			if r, c := i/o.Cols, i%o.Cols; !o.same(c, got, o.want[i]) {
				return differ(o.element(o.lead+r*o.Stride+c), got, o.want[i])
			}
		}
	}
	return nil
}

func differ(what string, got, want float32) error {
	return fmt.Errorf("%s is %v (%#08x), want %v (%#08x)", what, got, math.Float32bits(got), want, math.Float32bits(want))
}

// run makes one call and returns an error if it touched what it may not.
func (d *draw) run(level isa.Level, f call) (float32, error) {
	result, fault := recoverFault(level, f)
	if fault != nil {
		return 0, fmt.Errorf("%s: %s", fault.function, d.explain(fault.err))
	}
	for _, o := range d.operands {
		check := o.Intact
		if o.same == nil {
			check = o.Unchanged
		}
		if err := check(); err != nil {
			return 0, fmt.Errorf("%s: %w", level, err)
		}
	}
	return result, nil
}

// explain says which element a fault was at, if it was near one.
func (d *draw) explain(err error) string {
	if at, ok := err.(interface{ Addr() uintptr }); ok {
		for _, o := range d.operands {
			if index, ok := o.accessed(at.Addr()); ok {
				return fmt.Sprintf("fault at %s[%d], of %d", o.Name, index, o.extent())
			}
		}
	}
	return err.Error()
}

type fault struct {
	err      runtime.Error // with the address, if that is not 0 or impossible
	function string        // of package asm or portable
}

// recoverFault makes one call and turns a fault into a value, so that it fails one test and not all.
func recoverFault(level isa.Level, f call) (result float32, at *fault) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch e := recover().(type) {
		case nil:
		case runtime.Error:
			at = &fault{e, kernelOnStack()}
		default:
			panic(e)
		}
	}()
	return f(level), nil
}

// kernelOnStack returns the innermost function of asm or portable on the stack that has the name of a kernel.
func kernelOnStack() string {
	pcs := make([]uintptr, 32)
	for frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)]); ; {
		frame, more := frames.Next()
		pkg, name, _ := strings.Cut(filepath.Base(frame.Function), ".")
		if pkg == "asm" || pkg == "portable" && token.IsExported(name) && name != "FMA" {
			return pkg + "." + name
		}
		if !more {
			return "unknown function"
		}
	}
}

// TestForcedLevelRuns proves that the level asked for is the one that runs: every pointer leads to a page
// that faults, and the function that is found there must be this level's.
func TestForcedLevelRuns(t *testing.T) {
	if !Guarded {
		t.Skip("no pages that fault on this system")
	}
	pool := &pool{t: t}
	Levels(t, func(t *testing.T, level isa.Level) {
		for _, k := range kernels {
			d := &draw{Source: NewSource(0, 0), at: Outside, pool: pool}
			f := k.arguments(d, 1)
			if len(d.operands) == 0 {
				continue
			}
			want := "portable." + k.name
			if level != isa.Go {
				want = "asm." + strings.ToLower(k.name[:1]) + k.name[1:] + strings.ToUpper(level.String())
			}
			if _, fault := recoverFault(level, f); fault == nil {
				t.Errorf("%s ran without its operands", want)
			} else if !strings.HasPrefix(fault.function, want) { // an extension may follow
				t.Errorf("%s ran, want %s", fault.function, want)
			}
		}
	})
}

func TestKernelsDoNotAllocate(t *testing.T) {
	if race {
		t.Skip("the race detector allocates")
	}
	pool := &pool{t: t}
	Levels(t, func(t *testing.T, level isa.Level) {
		for _, k := range kernels {
			d := &draw{Source: NewSource(0, 0), at: offsets / 2, pool: pool}
			f := k.arguments(d, 1)
			if n := testing.AllocsPerRun(5, func() { f(level) }); n != 0 {
				t.Errorf("%s: %v allocations", k.name, n)
			}
		}
	})
}

// TestEveryKernelHasARow compares the table with what package asm exports.
func TestEveryKernelHasARow(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../asm/dispatch_other.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.IsExported() {
			missing[f.Name.Name] = true
		}
	}
	if len(missing) == 0 {
		t.Fatal("package asm exports nothing")
	}
	for _, k := range kernels {
		if !missing[k.name] {
			t.Errorf("%s is not a kernel of package asm, or stands in the table twice", k.name)
		}
		delete(missing, k.name)
	}
	if len(missing) > 0 {
		t.Errorf("kernels without a row in kernels_test.go: %v", slices.Sorted(maps.Keys(missing)))
	}
}
