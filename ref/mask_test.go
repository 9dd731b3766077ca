package ref

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// draw has a line for each query and an x for each key that it sees.
func draw(m Mask, h, queries, keys int) []string {
	var lines []string
	for i := range queries {
		var line strings.Builder
		for j := range keys {
			if m(0, h, i, j) {
				line.WriteByte('x')
			} else {
				line.WriteByte('.')
			}
		}
		lines = append(lines, line.String())
	}
	return lines
}

func TestMasks(t *testing.T) {
	for _, c := range []struct {
		name    string
		mask    Mask
		head    int
		picture string
	}{
		{"causal, top left", Causal(0), 0, "x... xx.. xxx."},
		{"causal, bottom right", Causal(4 - 3), 0, "xx.. xxx. xxxx"},
		{"causal, fewer keys than queries", Causal(2 - 4), 0, ".. .. x. xx"},
		{"prefix", Prefix(2, 0), 0, "xx.. xx.. xxx. xxxx"},
		{"prefix with a cache", Prefix(3, 1), 0, "xxx.. xxx.. xxxx. xxxxx"},
		{"window", Window(1, 0, 0), 0, "x... xx.. .xx. ..xx"},
		{"window, both sides", Window(1, 2, 0), 0, "xxx.. xxxx. .xxxx ..xxx ...xx"},
		{"window, left unbounded", Window(-1, 1, 0), 0, "xx.. xxx. xxxx xxxx"},
		{"window, right unbounded", Window(0, -1, 1), 0, ".xxx ..xx ...x"},
		{"last 2 tokens with a cache", And(Causal(2), Window(1, -1, 2)), 0, ".xx. ..xx"},
		{"shift", Shift(Causal(0), 2), 0, "xxx. xxxx"},
		{"and of nothing", And(nil), 0, "xx xx"},
		{"or of nothing", Or(), 0, ".. .."},
		{"or", Or(Window(0, 0, 0), Prefix(1, -9)), 0, "x.. xx. x.x"},
		{"by head", ByHead(Causal(0), nil), 3, "xx xx"},
		{"first key", FirstKey([]int{2}), 0, "..x ..x"},
		{"key count", KeyCount([]int{2}), 0, "xx. xx."},

		{"documents", Documents([]int{0, 2, 2, 5}, []int{0, 2, 2, 5}, nil), 0,
			"xx... xx... ..xxx ..xxx ..xxx"},
		{"documents, causal", Documents([]int{0, 2, 5}, []int{0, 2, 5}, Causal(0)), 0,
			"x.... xx... ..x.. ..xx. ..xxx"},
		{"documents of 1, 2 queries and 3, 2 keys, bottom right",
			Documents([]int{0, 1, 3}, []int{0, 3, 5}, func(d, _, i, j int) bool { return j <= i+[]int{2, 0}[d] }), 0,
			"xxx.. ...x. ...xx"},
		{"documents end", Documents([]int{0, 1}, []int{0, 1}, nil), 0, "x. .."},

		{"strided, first", StridedFirst(2), 0, "x..... xx.... xxx... .xxx.. ..xxx. ...xxx"},
		{"strided, second", StridedSecond(2), 0, "x..... .x.... x.x... .x.x.. x.x.x. .x.x.x"},
		{"strided", Strided(2), 0, "x..... xx.... xxx... .xxx.. x.xxx. .x.xxx"},
		{"fixed, first", FixedFirst(3), 0, "x...... xx..... xxx.... ...x... ...xx.. ...xxx. ......x"},
		{"fixed, second", FixedSecond(3, 1), 0, "....... ....... ..x.... ..x.... ..x.... ..x..x. ..x..x."},
		{"fixed", Fixed(3, 1), 0, "x...... xx..... xxx.... ..xx... ..xxx.. ..xxxx. ..x..xx"},
		{"fixed, second, head 0", FixedSecondByHead(5, 2), 0, "..... ..... ..... ...x. ...xx ...xx"},
		{"fixed, second, head 1", FixedSecondByHead(5, 2), 1, "..... .x... .xx.. .xx.. .xx.. .xx.."},
		{"fixed, second, head 2", FixedSecondByHead(5, 2), 2, "..... ..... ..... ...x. ...xx ...xx"},
		{"fixed, head 1", FixedByHead(3, 1), 1, "x..... xx.... xxx... .x.x.. .x.xx. .x.xxx"},
	} {
		want := strings.Fields(c.picture)
		require.Equal(t, want, draw(c.mask, c.head, len(want), len(want[0])), c.name)
	}
}

// The union does not depend on whether the first part of the strided pattern has l or l+1 keys.
func TestStridedUnion(t *testing.T) {
	for l := 1; l <= 5; l++ {
		shorter := And(StridedFirst(l), Window(l-1, -1, 0))
		require.Equal(t, draw(Strided(l), 0, 20, 20), draw(Or(shorter, StridedSecond(l)), 0, 20, 20))
	}
}
