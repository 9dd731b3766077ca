package fuzz

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestUpperHalvesAreCleared reads the assembly, since Go cannot see the upper halves of vector registers: left
// dirty, they slow down every SSE instruction that follows. A function that names a Y or Z register must have
// VZEROUPPER directly before each RET.
func TestUpperHalvesAreCleared(t *testing.T) {
	files, err := filepath.Glob("../asm/*_amd64.s")
	if err != nil || len(files) == 0 {
		t.Fatalf("no assembly to read: %v", err)
	}
	wide := regexp.MustCompile(`\b[YZ]\d`)
	comment := regexp.MustCompile(`//.*`)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		functions := strings.Split(comment.ReplaceAllString(string(text), ""), "\nTEXT ")[1:]
		if len(functions) == 0 {
			t.Errorf("%s: no functions", name)
		}
		for _, f := range functions {
			instructions := strings.Fields(f)
			returns := 0
			for i, word := range instructions {
				if word != "RET" {
					continue
				}
				returns++
				if wide.MatchString(f) && instructions[i-1] != "VZEROUPPER" {
					t.Errorf("%s: %s returns with dirty upper halves", name, instructions[0])
				}
			}
			if returns == 0 {
				t.Errorf("%s: %s never returns", name, instructions[0])
			}
		}
	}
}
