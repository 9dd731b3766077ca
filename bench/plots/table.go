package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The table of peers in the README stands between these lines.
const (
	tableBegin = "<!-- peers: bench/plots writes this -->\n"
	tableEnd   = "<!-- end of peers -->\n"
)

// updateReadme writes the table of peers into a file.
func updateReadme(file, folder string) error {
	d, err := readData(filepath.Join(folder, "peers.csv"))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(text, []byte(tableBegin))
	_, after, ended := bytes.Cut(rest, []byte(tableEnd))
	if !found || !ended {
		return fmt.Errorf("%s has no place for the table", file)
	}
	return os.WriteFile(file, slices.Concat(before, []byte(tableBegin), []byte(peersTable(d)), []byte(tableEnd), after), 0o644)
}

// peersTable has a row for each case: Quern, ONNX Runtime, the fastest of the other Go packages, and
// plain Go.
func peersTable(d *data) string {
	var levels []string
	runtime := ""
	for _, peer := range d.values("peer") {
		if strings.HasPrefix(peer, "quern") && !strings.Contains(peer, ",") {
			levels = append(levels, peer)
		}
	}
	for _, r := range d.records {
		if r["peer"] == "onnxruntime" {
			runtime = " " + r["version"]
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "| %s, one thread, %s | %s | ONNX Runtime%s | fastest other Go package | plain Go |\n", d.about["cpu"], d.about["date"],
		strings.Join(levels, " | "), runtime)
	fmt.Fprintf(&text, "|---|%s\n", strings.Repeat("---|", len(levels)+3))
	for _, name := range d.values("case") {
		cell := func(r map[string]string, best float64) string {
			ns, ok := number(r["ns_median"])
			if !ok || r["note"] != "" {
				return "–"
			}
			if ns == best {
				return "**" + short(ns) + "**"
			}
			return short(ns)
		}
		by := map[string]map[string]string{}
		fastest, other := 0.0, 0.0
		for _, r := range d.records {
			ns, ok := number(r["ns_median"])
			if r["case"] != name || !ok || r["note"] != "" || strings.Contains(r["peer"], ",") {
				continue
			}
			by[r["peer"]] = r
			if fastest == 0 || ns < fastest {
				fastest = ns
			}
			if !slices.Contains(append([]string{"onnxruntime", "plain Go"}, levels...), r["peer"]) && (other == 0 || ns < other) {
				other, by["other"] = ns, r
			}
		}
		fmt.Fprintf(&text, "| %s ", name)
		for _, peer := range append(slices.Clone(levels), "onnxruntime") {
			fmt.Fprintf(&text, "| %s ", cell(by[peer], fastest))
		}
		another := "–"
		if r := by["other"]; r != nil {
			another = cell(r, fastest) + " " + r["peer"]
		}
		fmt.Fprintf(&text, "| %s | %s |\n", another, cell(by["plain Go"], fastest))
	}
	return text.String()
}

// short is a duration with three digits.
func short(ns float64) string {
	unit := "ns"
	for _, next := range []string{"µs", "ms", "s"} {
		if ns < 999.5 {
			break
		}
		ns, unit = ns/1000, next
	}
	return fmt.Sprintf("%.3g %s", ns, unit)
}
