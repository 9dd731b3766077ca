// Command mca asks llvm-mca what the inner loops of the generated kernels cost on CPUs that are not
// here, and prints a table in Markdown: for each loop and CPU the predicted share of the limit that its
// fused multiply-adds set. It is a report that guides, not a measurement: llvm-mca knows nothing of
// caches, and its models are the compilers' own.
//
// It needs llvm-objdump and llvm-mca, version 19 or later (Debian: apt-get install llvm-19), and runs in
// folder gen of the repository:
//
//	go run ./mca
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// cpu is a core that llvm-mca has a model of.
type cpu struct {
	name string
	// fma is how many fused multiply-adds of the instruction set's own width the model starts in a
	// cycle. For 512 bits that is 1 on the Intel servers, where the hardware can do 2.
	fma map[string]float64
}

var cpus = map[string][]cpu{
	"amd64": {
		{"znver4", map[string]float64{"AVX512": 1, "AVX2": 2}},
		{"icelake-server", map[string]float64{"AVX512": 1, "AVX2": 2}},
		{"sapphirerapids", map[string]float64{"AVX512": 1, "AVX2": 2}},
		{"alderlake", map[string]float64{"AVX2": 2}},
	},
	"arm64": {
		{"neoverse-n1", map[string]float64{"NEON": 2}},
		{"neoverse-v1", map[string]float64{"NEON": 4}},
		{"neoverse-v2", map[string]float64{"NEON": 4}},
	},
}

// kernels are the functions whose loops matter, without the suffix of their instruction set.
var kernels = []string{"product", "softmaxTile", "dot", "expArray", "expSum"}

func main() {
	log.SetFlags(0)
	log.SetPrefix("mca: ")
	version := flag.String("llvm", "-19", "suffix of the names of LLVM's tools")
	least := flag.Int("fma", 24, "fewest fused multiply-adds of a loop worth showing")
	flag.Parse()
	dir, err := os.MkdirTemp("", "mca")
	check(err)
	defer os.RemoveAll(dir)

	fmt.Println("| loop | FMA | instructions | CPU | cycles | bound by FMA | share |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, arch := range []string{"amd64", "arm64"} {
		program := filepath.Join(dir, arch)
		build := exec.Command("go", "build", "-o", program, "github.com/quern-go/quern/bench")
		build.Dir = ".."
		build.Env = append(os.Environ(), "GOARCH="+arch, "GOOS=linux", "CGO_ENABLED=0")
		run(build)
		for _, kernel := range kernels {
			for _, isa := range []string{"AVX512", "AVX2", "NEON"} {
				if (isa == "NEON") != (arch == "arm64") {
					continue
				}
				for _, loop := range loops(*version, program, kernel+isa) {
					if loop.fma < *least {
						continue
					}
					for _, c := range cpus[arch] {
						rate, ok := c.fma[isa]
						if !ok {
							continue
						}
						cycles := predict(*version, arch, c.name, loop.text)
						bound := float64(loop.fma) / rate
						fmt.Printf("| %s%s %s | %d | %d | %s | %.1f | %.1f | %.0f %% |\n", kernel, isa, loop.label, loop.fma, len(loop.text), c.name, cycles, bound, 100*bound/cycles)
					}
				}
			}
		}
	}
}

// loop is the body of an innermost loop.
type loop struct {
	label string // offset in the function
	text  []string
	fma   int
}

var (
	instruction = regexp.MustCompile(`^\s*([0-9a-f]+):\s+(.*)$`)
	branch      = regexp.MustCompile(`^(?:j[a-z]+|b\.[a-z]+|b|cbn?z|tbn?z)\s.*?(?:0x)?([0-9a-f]+)(?:\s+<.*>)?$`)
	fused       = regexp.MustCompile(`^(?:vfn?m(?:add|sub)[0-9]+ps|fml[as])\s`)
)

// loops disassembles a function and returns the stretches between a label and the jump back to it that
// contain no other jump.
func loops(version, program, function string) []loop {
	listing := run(exec.Command("llvm-objdump"+version, "-d", "--no-show-raw-insn", "--no-print-imm-hex", "--disassemble-symbols=github.com/quern-go/quern/asm."+function+".abi0", program))
	type line struct {
		address uint64
		text    string
	}
	var lines []line
	place := map[uint64]int{}
	for _, l := range strings.Split(listing, "\n") {
		if m := instruction.FindStringSubmatch(l); m != nil {
			address, err := strconv.ParseUint(m[1], 16, 64)
			check(err)
			place[address] = len(lines)
			text, _, _ := strings.Cut(strings.ReplaceAll(m[2], "\t", " "), " //")
			lines = append(lines, line{address, strings.TrimSpace(text)})
		}
	}
	if len(lines) == 0 {
		log.Fatalf("%s is not in the program", function)
	}
	var found []loop
	last := -1 // the jump before
	for i, l := range lines {
		m := branch.FindStringSubmatch(l.text)
		if m == nil {
			continue
		}
		target, err := strconv.ParseUint(m[1], 16, 64)
		check(err)
		if start, ok := place[target]; ok && start > last && start < i {
			body := loop{label: fmt.Sprintf("+%#x", target-lines[0].address)}
			for _, b := range lines[start:i] {
				body.text = append(body.text, b.text)
				if fused.MatchString(b.text) {
					body.fma++
				}
			}
			found = append(found, body)
		}
		last = i
	}
	return found
}

var total = regexp.MustCompile(`(?m)^Iterations:\s+(\d+)(?s:.*?)^Total Cycles:\s+(\d+)`)

// predict returns the cycles of one iteration. Loads hit the first-level cache, and the jump back is
// left out.
func predict(version, arch, cpu string, text []string) float64 {
	mca := exec.Command("llvm-mca"+version, "-march="+map[string]string{"amd64": "x86-64", "arm64": "aarch64"}[arch], "-mcpu="+cpu, "-iterations=200", "-instruction-info=false", "-resource-pressure=false")
	mca.Stdin = strings.NewReader(strings.Join(text, "\n") + "\n")
	m := total.FindStringSubmatch(run(mca))
	if m == nil {
		log.Fatalf("llvm-mca printed no cycles for %s", cpu)
	}
	iterations, err := strconv.ParseFloat(m[1], 64)
	check(err)
	cycles, err := strconv.ParseFloat(m[2], 64)
	check(err)
	return cycles / iterations
}

func run(c *exec.Cmd) string {
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		log.Fatalf("%s: %v\n%s", c, err, stderr.String())
	}
	return string(out)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
