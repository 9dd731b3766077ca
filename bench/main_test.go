package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quern-go/quern/internal/isa"
	"github.com/quern-go/quern/kernel"
)

var update = flag.Bool("update", false, "rewrite testdata from the active ISA")

// command runs the program.
func command(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(args, &out, &err)
	return status, out.String(), err.String()
}

// golden compares lines with a committed file. The active level with -update rewrites it.
func golden(t *testing.T, level isa.Level, file, lines string) {
	t.Helper()
	file = "testdata/" + file
	if *update && level == isa.Active() {
		require.NoError(t, os.WriteFile(file, []byte(lines), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), lines)
}

// skipUpdate skips a test that uses the committed digests as they were when it was built.
func skipUpdate(t *testing.T) {
	if *update {
		t.Skip("testdata is being rewritten")
	}
}

// The level that QUERN_ISA names is in use, and those that QUERN_REQUIRE_ISA names are there to be
// tested. Reading the first here, and not only while the program starts, also tells the go command
// that results depend on it: it would serve those of another ISA from its cache.
func TestRequiredISAs(t *testing.T) {
	if name := os.Getenv(isa.ForceVariable); name != "" {
		require.Equal(t, name, kernel.ISA())
	}
	if names := os.Getenv(isa.RequireVariable); names != "" {
		require.Subset(t, kernel.ISAs(), strings.Split(names, ","))
	}
}

// Every level gives the committed digests of the odd cases.
func TestDigests(t *testing.T) {
	for _, level := range isa.Supported() {
		t.Run(level.String(), func(t *testing.T) {
			status, lines, stderr := command("-digest", "-isa", level.String())
			require.Zero(t, status, stderr)
			golden(t, level, "digests.txt", lines)
		})
	}
}

// Cases that must have the same bits have them, and others not by mistake.
func TestOddCases(t *testing.T) {
	digests := map[string]string{}
	for _, c := range oddCases() {
		require.NotContains(t, digests, c.name)
		require.NotContains(t, c.name, " ")
		digests[c.name] = digest(c.run()...)
		if c.same != "" {
			require.Contains(t, digests, c.same, c.name)
			require.Equal(t, digests[c.same], digests[c.name], "%s and %s", c.same, c.name)
		}
	}
}

// The cases of the report have the committed digests, on every level that takes little time, and
// little error.
func TestCases(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	lines := ""
	some := shortGroup
	if *update {
		some = everyGroup
	}
	for _, c := range cases(some) {
		t.Run(c.Name, func(t *testing.T) {
			j := c.prepare(2)
			if !slices.Contains(j.levels(), isa.Active()) {
				t.Skip("takes minutes on this ISA")
			}
			j.run(1)
			most := 1e-6
			if c.Name == "L1" {
				most = 1e-4 // ALiBi moves its scores by up to 512, where float32 has steps of 3e-5
			}
			require.Less(t, j.maxErr(), most)
			r := result{}
			c.compare(&r, j)
			if !*update {
				require.Contains(t, r.Same, "golden")
				require.Empty(t, r.Differs)
			}
			lines += c.Name + " " + r.Digest + "\n"
		})
	}
	if *update {
		require.Equal(t, len(cases(everyGroup)), strings.Count(lines, "\n"), "cases failed or were skipped")
		golden(t, isa.Active(), "cases.txt", lines)
	}
}

func TestJSON(t *testing.T) {
	skipUpdate(t)
	status, out, stderr := command("-json", "-case", "S1,E1,V64", "-isa", kernel.ISAs()[0], "-rounds", "2")
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 3)
	for i, name := range []string{"S1", "E1", "V64"} {
		var r map[string]any
		require.NoError(t, json.Unmarshal([]byte(lines[i]), &r))
		for _, key := range strings.Fields("case isa workers ns gflops peak_pct gbs bw_pct max_err digest allocs first_ns best_ns") {
			require.Contains(t, r, key)
		}
		require.Equal(t, name, r["case"])
		require.Equal(t, kernel.ISAs()[0], r["isa"])
		require.Positive(t, r["ns"])
		require.Zero(t, r["allocs"])
		require.Contains(t, r["same"], "golden")
		require.Empty(t, r["differs"])
		require.Equal(t, name == "E1", r["peak_pct"] == nil)
		require.Equal(t, name != "V64", r["bw_pct"] == nil)
	}
}

func TestReport(t *testing.T) {
	skipUpdate(t)
	status, out, stderr := command("-case", "E1,V768", "-rounds", "1", "-isa", strings.Join(kernel.ISAs(), ","))
	require.Zero(t, status, stderr)
	for _, level := range kernel.ISAs() {
		require.Contains(t, out, "ISA "+level+",")
	}
	require.Equal(t, len(kernel.ISAs()), strings.Count(out, "\nV768 "))
	require.Equal(t, len(kernel.ISAs()), strings.Count(out, "ns/elem"))
}

func TestList(t *testing.T) {
	status, out, _ := command("-list")
	require.Zero(t, status)
	require.Len(t, strings.Split(strings.TrimSpace(out), "\n"), len(cases(everyGroup)))
	require.Regexp(t, `(?m)^G1 +prefill +attention B1 Hq32 Hkv8 S1024 D128 causal$`, out)
	require.Regexp(t, `(?m)^D2i8 +decode +attention .* int8 cache +only with -all or by name$`, out)
	_, out, _ = command("-list", "-case", "elementwise,PW")
	require.Len(t, strings.Split(strings.TrimSpace(out), "\n"), 4)
}

func TestUsage(t *testing.T) {
	for _, c := range []struct{ args, message string }{
		{"-case P1,nothing", `there is no case "nothing"`},
		{"-isa mmx", `there is no instruction set "mmx" here`},
		{"-isa avx2,", `there is no instruction set "" here`},
		{"-workers 0", "must be at least 1"},
		{"-rounds -1", "must be at least 1"},
		{"-nothing", "not defined: -nothing"},
		{"P1", `unexpected argument "P1"`},
	} {
		status, out, stderr := command(strings.Fields(c.args)...)
		require.Equal(t, 2, status, c.args)
		require.Empty(t, out)
		require.Contains(t, stderr, c.message)
	}
}

func TestFLOPs(t *testing.T) {
	// 3 queries of 2 heads see 1, 2 and 3 keys.
	require.EqualValues(t, 2*(5+7)*2*6, attention{Shape: kernel.Shape{
		Batch: 1, Heads: 2, KVHeads: 1, Queries: 3, Keys: 3, Dim: 5, ValueDim: 7}, mask: causal}.flops())
	require.Equal(t, 4*64*8*1024*1024.0, groups[0].cases[0].prepare(1).flops())
}

func TestNormal(t *testing.T) {
	x := normal(1, 1<<16)
	require.Equal(t, x[:100], normal(1, 100))
	require.NotContains(t, x, normal(2, 1)[0])
	var mean, square float64
	for _, x := range x {
		mean += float64(x) / float64(1<<16)
		square += float64(x) * float64(x) / float64(1<<16)
	}
	require.InDelta(t, 0, mean, 0.02)
	require.InDelta(t, 1, square, 0.02)
}

func TestMedian(t *testing.T) {
	require.Equal(t, 3.0, median([]float64{9, 3, 1}))
	require.Equal(t, 2.0, median([]float64{9, 3, 1, 0}))
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int]string{512: "512 B", 1536: "1.5 KiB", 8 << 20: "8 MiB", 1920 << 20: "1920 MiB"} {
		require.Equal(t, want, size(bytes))
	}
}

func TestCaseNames(t *testing.T) {
	var names []string
	for _, g := range groups {
		require.NotContains(t, names, g.name)
		names = append(names, g.name)
		for _, c := range g.cases {
			require.NotContains(t, names, c.Name)
			names = append(names, c.Name)
			require.Equal(t, g.name, c.group().name)
		}
	}
}
