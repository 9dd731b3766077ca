package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	ortFolder  = "onnxruntime"
	ortPackage = "onnxruntime-node"
)

// ortVersion is that of the installed package, "" without one.
func ortVersion() string {
	text, err := os.ReadFile(filepath.Join(ortFolder, "node_modules", ortPackage, "package.json"))
	if err != nil {
		return ""
	}
	var p struct{ Version string }
	check(json.Unmarshal(text, &p))
	return p.Version
}

// onnxRuntime is not Go: a process of Node that runs ONNX Runtime, and waits while others run. It is nil
// where the package is not installed. A call through Node takes longer than short problems do, so there
// are none of these.
func onnxRuntime() *peer {
	if _, err := exec.LookPath("node"); err != nil || ortVersion() == "" {
		return nil
	}
	return &peer{
		name: "onnxruntime", module: ortPackage,
		softmax: func(s *softmax) *entry {
			if len(s.src) < 1<<14 {
				return nil
			}
			return startORT("Softmax", s.dst, map[string]any{"kind": "softmax", "n": len(s.src)}, map[string][]float32{"x": s.src})
		},
		sgemm: func(g *sgemm) *entry {
			return startORT("MatMul, B packed once", g.c, map[string]any{"kind": "sgemm", "n": g.n}, map[string][]float32{"a": g.a, "b": g.b})
		},
		attention: func(a *attention) *entry {
			return startORT("MultiHeadAttention", a.out, map[string]any{
				"kind": "attention", "heads": a.heads, "length": a.length, "dim": a.dim, "causal": a.causal, "scale": a.scale(),
			}, map[string][]float32{"q": a.q, "k": a.k, "v": a.v})
		},
	}
}

// startORT starts a process, which run.mjs describes.
func startORT(how string, out []float32, problem map[string]any, inputs map[string][]float32) *entry {
	folder := must(os.MkdirTemp("", "quern-peers"))
	check(os.WriteFile(filepath.Join(folder, "problem.json"), must(json.Marshal(problem)), 0o600))
	for name, x := range inputs {
		check(os.WriteFile(filepath.Join(folder, name), must(binary.Append(nil, binary.LittleEndian, x)), 0o600))
	}
	node := exec.Command("node", filepath.Join(ortFolder, "run.mjs"), folder)
	node.Stderr = os.Stderr
	stdin, stdout := must(node.StdinPipe()), must(node.StdoutPipe())
	check(node.Start())
	answers := bufio.NewReader(stdout)
	ask := func(question any) (ns float64) {
		must(fmt.Fprintln(stdin, question))
		if _, err := fmt.Fscanln(answers, &ns); err != nil {
			panic(fmt.Errorf("onnxruntime: %w", err))
		}
		return ns
	}
	last := 0.0
	return &entry{
		how:       how,
		run:       func(calls int) { last = ask(calls) },
		elsewhere: func() float64 { return last },
		collect: func() {
			ask("output")
			must(binary.Decode(must(os.ReadFile(filepath.Join(folder, "y"))), binary.LittleEndian, out))
		},
		close: func() {
			check(stdin.Close())
			check(node.Wait())
			check(os.RemoveAll(folder))
		},
	}
}
