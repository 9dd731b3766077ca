package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeVariable makes the test program a fake build of bench. It names a folder with a file for each build.
const fakeVariable = "QUERN_BENCH_FAKE"

func TestMain(m *testing.M) {
	if folder := os.Getenv(fakeVariable); folder != "" {
		os.Exit(fakeBuild(folder))
	}
	os.Exit(m.Run())
}

// fake is what a fake build does.
type fake struct {
	Times  []float64 // of its runs, over and over
	Result result    // of its runs, but case, ISA and time
	Line   string    // what it prints instead of a result
	Stderr string
	Status int
	Hang   bool // it interrupts its parent, and then ends much later
	Real   bool // it is no fake
}

// fakeBuild is the main function of a fake. It appends its command line to the file "runs".
func fakeBuild(folder string) int {
	var f fake
	name, _, _ := strings.Cut(filepath.Base(os.Args[0]), ".")
	runs := filepath.Join(folder, "runs")
	before, _ := os.ReadFile(runs)
	check(os.WriteFile(runs, append(before, name+" "+strings.Join(os.Args[1:], " ")+"\n"...), 0o600))
	check(json.Unmarshal(must(os.ReadFile(filepath.Join(folder, name+".json"))), &f))
	if f.Real {
		return run(os.Args[1:], os.Stdout, os.Stderr)
	}
	if f.Hang {
		check(must(os.FindProcess(os.Getppid())).Signal(os.Interrupt))
		time.Sleep(90 * time.Second)
	}
	fmt.Fprint(os.Stderr, f.Stderr)
	line := f.Line
	if len(f.Times) > 0 {
		f.Result.Case, f.Result.ISA = os.Args[3], os.Args[5]
		f.Result.BestNS = f.Times[strings.Count(string(before), name)%len(f.Times)]
		line = string(must(json.Marshal(f.Result)))
	}
	fmt.Println(line)
	return f.Status
}

// against compares two fakes.
func against(t *testing.T, this, other fake, args ...string) (status int, stdout, stderr string, runs []string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts many processes")
	}
	folder := t.TempDir()
	for name, f := range map[string]fake{"this": this, "other": other} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name+".json"), must(json.Marshal(f)), 0o600))
	}
	t.Setenv(fakeVariable, folder)
	build := must(os.Executable())
	status, stdout, stderr = command(append([]string{"-against", build, "-isa", "go", "-case", "S1"}, args...)...)
	all, err := os.ReadFile(filepath.Join(folder, "runs"))
	require.NoError(t, err)
	return status, stdout, stderr, strings.Split(strings.TrimSpace(string(all)), "\n")
}

// steady is a fake whose times scatter by 1 % around ns.
func steady(ns float64) fake {
	return fake{Times: []float64{ns, ns * 1.01, ns * 1.005}, Result: result{Workers: 1, Digest: "abc"}}
}

// The builds alternate, and have the same arguments, which are all that a build without -against knows.
func TestAgainstAlternates(t *testing.T) {
	status, _, stderr, runs := against(t, steady(100), steady(100), "-turns", "6", "-rounds", "3", "-cpu", "-case", "S1,V64")
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	require.Len(t, runs, 24)
	order := ""
	for i, run := range runs {
		build, args, _ := strings.Cut(run, " ")
		order += build[:1]
		require.Equal(t, fmt.Sprintf("-json -case %s -isa go -rounds=3 -workers=1 -cpu=true", []string{"S1", "V64"}[i/12]), args)
	}
	require.Equal(t, strings.Repeat("toot", 6), order)
}

func TestAgainstVerdicts(t *testing.T) {
	for _, c := range []struct {
		this, other float64
		status      int
		row, sum    string
	}{
		{100, 100, 0, `S1 +go +100 ns +100 ns +1\.000 +1\.000 +1\.000 … 1\.000 +same +=`, "0 slower, 0 faster, 1 same, 0 unclear, 0 failed; bits differ in 0"},
		{103, 100, 1, `S1 +go +103 ns +100 ns +1\.030 +1\.030 +1\.030 … 1\.030 +SLOWER +=`, "1 slower, 0 faster, 0 same,"},
		{97, 100, 0, `S1 +go +97 ns +100 ns +0\.970 .* faster +=`, "0 slower, 1 faster,"},
	} {
		status, stdout, stderr, _ := against(t, steady(c.this), steady(c.other), "-turns", "6")
		require.Equal(t, c.status, status, stderr)
		require.Regexp(t, `(?m)^`+c.row+`$`, stdout)
		require.Contains(t, stdout, c.sum)
		require.Contains(t, stdout, "6 turns")
	}
}

func TestAgainstJSON(t *testing.T) {
	status, stdout, _, _ := against(t, steady(103), steady(100), "-json", "-case", "S1,V64", "-turns", "6")
	require.Equal(t, 1, status)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 2)
	var c comparison
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &c))
	require.InDelta(t, 1.03, c.Median, 1e-9)
	require.Equal(t, comparison{Case: "V64", ISA: "go", Workers: 1, BestNS: 103, OtherNS: 100, Best: 1.03, Median: c.Median, Low: c.Low, High: c.High,
		Turns: 6, Verdict: slower, Digest: "abc", OtherDigest: "abc"}, c)
}

// Other bits are news, also those that a build finds itself. The times are compared all the same.
func TestAgainstBits(t *testing.T) {
	changed, wrong := steady(100), steady(100)
	changed.Result.Digest = "def"
	wrong.Result.Differs, wrong.Status = []string{"golden"}, 1
	for _, c := range []struct {
		this, other fake
		status      int
		bits        string
	}{
		{changed, steady(100), 1, "same     DIFFER from other build\n"},
		{wrong, wrong, 1, "same     DIFFER from golden\n"},
		{wrong, changed, 1, "same     DIFFER from golden, other build\n"},
	} {
		status, stdout, stderr, runs := against(t, c.this, c.other, "-turns", "6")
		require.Equal(t, c.status, status, stderr)
		require.Contains(t, stdout, c.bits)
		require.Contains(t, stdout, "bits differ in 1")
		require.Len(t, runs, 12)
	}
}

// Bits that differed once are not forgotten.
func TestAgainstBitsOnce(t *testing.T) {
	var c comparison
	for _, digest := range []string{"abc", "def", "abc"} {
		c.bits(&result{Digest: digest}, &result{Digest: "abc"})
	}
	require.Equal(t, comparison{Digest: "def", OtherDigest: "abc", Differs: []string{otherBuild}}, c)
}

// What a build that failed has said is shown, and the next case is compared.
func TestAgainstFailure(t *testing.T) {
	for _, c := range []struct {
		other   fake
		message string
	}{
		{fake{Status: 2, Stderr: `bench: there is no case "S1"`}, "exit status 2\nbench: there is no case \"S1\"\n"},
		{fake{Status: 1, Stderr: "killed"}, "no JSON object on standard output: \"\\n\"\nkilled\n"},
		{fake{}, "no JSON object on standard output"},
		{fake{Line: `{"case":"P1","isa":"go","best_ns":1,"digest":"abc"}`}, `no result of S1 on go on standard output: {"case":"P1"`},
		{fake{Line: `{"case":"S1","isa":"avx2","best_ns":1,"digest":"abc"}`}, "no result of S1 on go"},
		{fake{Line: `{"case":"S1","isa":"go","best_ns":0,"digest":"abc"}`}, "no result of S1 on go"},
		{fake{Line: `{"case":"S1","isa":"go","best_ns":1}`}, "no result of S1 on go"},
	} {
		status, stdout, stderr, runs := against(t, steady(103), c.other, "-case", "S1,V64")
		require.Equal(t, 2, status, stderr)
		require.Regexp(t, `^bench: S1 on go: .* -json -case S1 -isa go -rounds=9 -workers=1 -cpu=false: `, stderr)
		require.Contains(t, stderr, c.message)
		require.Contains(t, stdout, "S1      go      failed\nV64     go      failed\n")
		require.Contains(t, stdout, "2 failed")
		require.Len(t, runs, 4)
	}
	_, stdout, _, _ := against(t, steady(103), fake{}, "-json")
	require.Equal(t, 1, strings.Count(stdout, "\n"))
	require.Contains(t, stdout, `{"case":"S1","isa":"go","verdict":"failed","error":`)
}

// An interrupt ends the child, and the comparison with it.
func TestAgainstInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no process can interrupt another")
	}
	start := time.Now()
	status, _, stderr, runs := against(t, fake{Hang: true}, steady(100))
	require.Equal(t, 2, status)
	require.Equal(t, "bench: interrupted\n", stderr)
	require.Len(t, runs, 1)
	require.Less(t, time.Since(start), time.Minute)
}

func TestAgainstUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		args    []string
		message string
	}{
		{[]string{"-against", missing}, "bench: -against: "},
		{[]string{"-against", missing, "-digest"}, "-against and -digest exclude each other"},
		{[]string{"-turns", "5"}, "-turns must be from 6 to 1000"},
		{[]string{"-turns", "1001"}, "-turns must be from 6 to 1000"},
	} {
		status, stdout, stderr := command(c.args...)
		require.Equal(t, 2, status)
		require.Empty(t, stdout)
		require.Contains(t, stderr, c.message)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		best, median, low, high float64
		want                    verdict
	}{
		{1.02, 1.02, 1.005, 1.04, slower},
		{1.02, 1.02, 0.995, 1.04, unclear}, // the turns contradict each other
		{1.00, 1.02, 1.005, 1.04, unclear}, // the best times do not say so
		{1.02, 1.009, 1.005, 1.02, unclear},
		{1.005, 1.005, 1.002, 1.009, same}, // slower, but not by 1 %
		{1.00, 1.00, 0.90, 1.01, same},
		{1.00, 1.00, 0.99, 1.02, unclear},
		{0.98, 0.98, 0.96, 0.995, faster},
		{0.98, 0.98, 0.96, 1.005, same}, // perhaps faster, but surely not slower
		{1.00, 0.98, 0.96, 0.995, same},
	} {
		r := comparison{Best: c.best, Median: c.median, Low: c.low, High: c.high}
		require.Equal(t, c.want, r.judge(), r)
	}
}

// The interval's ranks are those of the tables of the sign test, and it has the median in it as often as it says.
func TestInterval(t *testing.T) {
	for n, rank := range map[int]float64{6: 1, 8: 1, 9: 2, 12: 3, 15: 4, 17: 5, 20: 6, 25: 8, 40: 14, 100: 40, mostTurns: 469} {
		var x []float64
		for i := range n {
			x = append(x, float64(i+1))
		}
		slices.Reverse(x)
		low, high := interval(x)
		require.Equal(t, rank, low, n)
		require.Equal(t, float64(n+1)-rank, high, n)
	}
	random, hits := source(1), 0
	for range 2000 {
		x := make([]float64, 15)
		for i := range x {
			x[i] = math.Pow(float64(random.next()>>11)/(1<<53), 9) // of which 2⁻⁹ is the median
		}
		if low, high := interval(x); low <= 0x1p-9 && 0x1p-9 <= high {
			hits++
		}
	}
	require.InDelta(t, 0.965, float64(hits)/2000, 0.015)
}

// A real build against itself: it takes the arguments, and has the same bits. What else is said depends on the machine.
func TestAgainstItself(t *testing.T) {
	skipUpdate(t)
	_, stdout, stderr, _ := against(t, fake{Real: true}, fake{Real: true}, "-case", "M1", "-turns", "6", "-rounds", "1", "-json")
	require.Empty(t, stderr)
	var c comparison
	require.NoError(t, json.Unmarshal([]byte(stdout), &c))
	require.Equal(t, committed("cases.txt")["M1"], c.Digest)
	require.Equal(t, c.Digest, c.OtherDigest)
	require.Empty(t, c.Differs)
	require.Positive(t, c.Median)
}
