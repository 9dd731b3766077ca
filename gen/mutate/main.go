// Command mutate asks whether the tests would notice a wrong instruction. It draws mutations of the
// generated assembly, one instruction each, applies one after the other in a temporary copy of the
// repository, runs the tests that should fail, and prints a table of what caught each. One that nothing
// caught is either a gap in the tests, or equivalent, and then MUTATIONS.md says why.
//
//	go run ./mutate -seed 1 -n 60
//
// runs in folder gen. Mutants of NEON run under qemu-aarch64-static (Debian: qemu-user-static). What is
// drawn depends on the flags and on the assembly alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// arch is where an instruction set runs, and by what.
var arch = map[string]struct{ name, file, emulator string }{
	"avx512": {"amd64", "asm/avx512_amd64.s", ""},
	"avx2":   {"amd64", "asm/avx2_amd64.s", ""},
	"neon":   {"arm64", "asm/neon_arm64.s", "qemu-aarch64-static"},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("mutate: ")
	seed := flag.Uint64("seed", 1, "what is drawn")
	n := flag.Int("n", 60, "number of mutants")
	isas := flag.String("isa", "avx512,avx2,neon", "instruction sets to draw from")
	only := flag.String("only", "", "numbers of mutants, separated by commas: run these alone")
	quick := flag.Bool("quick", false, "run the harness and the digests alone")
	list := flag.Bool("list", false, "show what would be run")
	flag.Parse()

	var files []*source
	for _, isa := range strings.Split(*isas, ",") {
		text, err := os.ReadFile(filepath.Join("..", arch[isa].file))
		check(err)
		files = append(files, parse(isa, arch[isa].file, string(text)))
	}
	var chosen []string
	if *only != "" {
		chosen = strings.Split(*only, ",")
	}
	l := &laboratory{quick: *quick, sound: map[string]error{}}
	if !*list {
		check(l.open(".."))
		defer os.RemoveAll(l.root)
	}

	fmt.Println("| | ISA | kernel | mutation | line | original | mutated | caught by |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	r := rand.New(rand.NewPCG(*seed, 0))
	seen := map[string]bool{}
	examined, survived := 0, 0
	for number := 1; number <= *n; {
		m := draw(r, files)
		if key := fmt.Sprint(m.file.name, m.line, m.mutated); seen[key] {
			continue
		} else {
			seen[key] = true
		}
		if !assembles(m) {
			continue
		}
		if number++; chosen != nil && !slices.Contains(chosen, strconv.Itoa(number-1)) {
			continue
		}
		verdict := ""
		if !*list {
			verdict = l.examine(m)
			examined++
		}
		row := fmt.Sprintf("| %d | %s | %s | %s | %s:%d | `%s` | `%s` |", number-1, m.file.isa, m.function.name, m.operator, m.file.name, m.line+1, squeeze(m.original), squeeze(code(m.mutated)))
		if verdict == "" && !*list {
			survived++
			verdict = "**nothing**"
		}
		fmt.Println(row, verdict, "|")
	}
	if !*list {
		fmt.Printf("\n%d of %d survived.\n", survived, examined)
	}
}

// code is a line without its comment, unless it is one.
func code(line string) string {
	before, _, _ := strings.Cut(strings.TrimSpace(line), " // ")
	return before
}

// squeeze makes a line fit for a cell of a table.
func squeeze(line string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(line), " "), "|", "\\|")
}

// assembles tries a mutant with Go's assembler alone, which is fast; one that it refuses is no mutant.
func assembles(m *mutant) bool {
	dir, err := os.MkdirTemp("", "mutate")
	check(err)
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, filepath.Base(m.file.name))
	check(os.WriteFile(file, []byte(m.text()), 0o644))
	asm := exec.Command("go", "tool", "asm", "-p", "asm", "-I", include(), "-o", filepath.Join(dir, "o"), file)
	asm.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch[m.file.isa].name)
	return asm.Run() == nil
}

// include is where textflag.h is.
var include = sync.OnceValue(func() string {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	check(err)
	return filepath.Join(strings.TrimSpace(string(root)), "pkg", "include")
})

// laboratory is a copy of the repository.
type laboratory struct {
	root    string
	quick   bool
	sound   map[string]error // by step and instruction set: whether it passes without a mutation
	digests string           // what all must print
}

// open copies what the tests need.
func (l *laboratory) open(repository string) (err error) {
	if l.root, err = os.MkdirTemp("", "mutate"); err != nil {
		return err
	}
	return filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(repository, path)
		if err != nil {
			return err
		}
		switch to := filepath.Join(l.root, name); {
		case d.IsDir() && (d.Name() == ".git" || name == "gen" || name == "vectors"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case !d.Type().IsRegular():
			return nil
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(to, text, 0o644)
		}
	})
}

// step is a program that might notice: the tests of a package, or one that prints digests.
type step struct {
	name, pkg string
	args      []string
	limit     time.Duration
}

// steps are those for a mutant, the fastest and likeliest first. All tests of package kernel take too long
// in an emulator; the digests are of every function that it has.
func (l *laboratory) steps(m *mutant) []step {
	run := fmt.Sprintf("^(TestKernels|TestUpperHalvesAreCleared|TestConstantsAreAlike)$/^%s$/^%s$", m.file.isa, m.function.kernel)
	if arch[m.file.isa].emulator != "" {
		return []step{
			{"harness", "fuzz", []string{"-test.run", run}, 2 * time.Minute},
			{"digests", "bench", []string{"-digest"}, 10 * time.Minute},
			{"fuzz", "fuzz", []string{"-test.short", "-test.skip", "^TestSoak$"}, 20 * time.Minute},
		}
	}
	return []step{
		{"harness", "fuzz", []string{"-test.run", run}, time.Minute},
		{"digests", "bench", []string{"-digest"}, 5 * time.Minute},
		{"fuzz", "fuzz", []string{"-test.skip", "^TestSoak$"}, 10 * time.Minute},
		{"kernel", "kernel", []string{"-test.short", "-test.skip", "^Test(OthersGoOn|CallsAreShort)$"}, 20 * time.Minute},
	}
}

// examine returns what caught the mutant, or "" if nothing did.
func (l *laboratory) examine(m *mutant) string {
	path := filepath.Join(l.root, m.file.name)
	original := []byte(strings.Join(m.file.lines, "\n"))
	for i, s := range l.steps(m) {
		if l.quick && i > 1 {
			break
		}
		key := s.name + m.file.isa
		if s.name == "harness" {
			key += m.function.kernel
		}
		if _, known := l.sound[key]; !known {
			l.sound[key] = l.test(s, m.file.isa)
		}
		if err := l.sound[key]; err != nil {
			log.Fatalf("the tests fail without a mutation: %s, %s: %v", s.name, m.file.isa, err)
		}
		check(os.WriteFile(path, []byte(m.text()), 0o644))
		err := l.test(s, m.file.isa)
		check(os.WriteFile(path, original, 0o644))
		if err != nil {
			return s.name + ": " + squeeze(err.Error())
		}
	}
	return ""
}

// test builds and runs the tests of a step. The error is the first line that tells of a failure.
func (l *laboratory) test(s step, isa string) error {
	a, binary := arch[isa], filepath.Join(l.root, "tests")
	build := exec.Command("go", "test", "-c", "-vet=off", "-o", binary, "./"+s.pkg)
	if s.name == "digests" {
		build = exec.Command("go", "build", "-o", binary, "./"+s.pkg)
	}
	build.Dir, build.Env = l.root, append(os.Environ(), "GOOS=linux", "GOARCH="+a.name)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %s", out)
	}
	args := append([]string{binary}, s.args...)
	if s.name != "digests" {
		args = append(args, "-test.failfast")
	}
	if a.emulator != "" {
		args = append([]string{a.emulator}, args...)
	}
	// An endless loop in assembly cannot be stopped from within.
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	run := exec.CommandContext(ctx, args[0], args[1:]...)
	run.Dir, run.Env = filepath.Join(l.root, s.pkg), append(os.Environ(), "QUERN_ISA="+isa, "QUERN_REQUIRE_ISA="+isa)
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	run.Cancel = func() error { return syscall.Kill(-run.Process.Pid, syscall.SIGKILL) }
	out, err := run.CombinedOutput()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("does not end")
	}
	if err == nil && s.name == "digests" {
		if l.digests == "" { // this run is without a mutation, and its own test compares it with others
			l.digests = string(out)
		}
		return differ(l.digests, string(out))
	}
	if err == nil {
		return nil
	}
	return errors.New(reason(string(out), err))
}

// differ names the first digest that is not as it should be.
func differ(want, got string) error {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			return errors.New(w[i])
		}
	}
	return nil
}

// reason is the line of a test's output that says most.
func reason(out string, err error) string {
	lines := strings.Split(out, "\n")
	for _, sign := range []string{"_test.go:", "unexpected fault", "SIG", "panic:", "fatal error", "--- FAIL"} {
		for _, line := range lines {
			if strings.Contains(line, sign) {
				if _, rest, ok := strings.Cut(line, "_test.go:"); ok {
					_, line, _ = strings.Cut(rest, ": ")
				}
				if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, ":") {
					return line[:min(len(line), 90)]
				}
			}
		}
	}
	return err.Error()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
