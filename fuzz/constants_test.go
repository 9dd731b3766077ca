package fuzz

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// TestConstantsAreAlike reads the tables of the assembly. The last bit of a polynomial's first coefficient
// shows in one result of millions, so inputs will not find a wrong one; but it stands in several places: on
// amd64 in a name and in each lane, on arm64 in four lanes, and on both.
func TestConstantsAreAlike(t *testing.T) {
	row := regexp.MustCompile(`(?m)^DATA (\w+)<>\+(\d+)\(SB\)/4, \$0x([0-9a-f]{8})$`)
	named := regexp.MustCompile(`^x\d+_([0-9a-f]{8})$`)
	counts := [][]uint32{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}, {12, 13, 14, 15}, {1, 2, 4, 8}} // of lanes, and a bit for each
	known := map[string]map[uint32]bool{}                                                            // by file
	for _, name := range []string{"avx2_amd64.s", "avx512_amd64.s", "neon_arm64.s"} {
		text, err := os.ReadFile(filepath.Join("../asm", name))
		if err != nil {
			t.Fatal(err)
		}
		known[name] = map[uint32]bool{}
		var four []uint32
		for _, at := range row.FindAllStringSubmatch(string(text), -1) {
			n, err := strconv.ParseUint(at[3], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			value := uint32(n)
			if hex := named.FindStringSubmatch(at[1]); hex != nil {
				if hex[1] != at[3] {
					t.Errorf("%s: %s+%s is %s", name, at[1], at[2], at[3])
				}
				known[name][value] = true
			}
			if at[1] != "constants" {
				continue
			}
			if four = append(four, value); len(four) < 4 {
				continue
			}
			alike := four[0] == four[1] && four[0] == four[2] && four[0] == four[3]
			if alike {
				known[name][value] = true
			} else if !slices.ContainsFunc(counts, func(c []uint32) bool { return slices.Equal(c, four) }) {
				t.Errorf("%s: constants up to +%s are %08x", name, at[2], four)
			}
			four = four[:0]
		}
		if len(known[name]) < 20 {
			t.Errorf("%s has only %d constants", name, len(known[name]))
		}
	}
	for _, pair := range [][2]string{{"neon_arm64.s", "avx2_amd64.s"}, {"avx2_amd64.s", "avx512_amd64.s"}} {
		for value := range known[pair[0]] {
			if !known[pair[1]][value] {
				t.Errorf("%s has the constant %08x, %s has not", pair[0], value, pair[1])
			}
		}
	}
}
