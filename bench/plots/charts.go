package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// drawPeers has a band for each case and in it a mark for each peer, one below the other.
func drawPeers(d *data) *picture {
	p := newPicture(d, "Quern and other packages: share of the FMA peak, by case",
		fmt.Sprintf("100 %% = the peak, %s GFLOP/s at most, measured behind each entry; logarithmic; not shown: below 0.5 %%, wrong results", d.about["peak_gflops"]))
	var cases []string
	for _, r := range d.records {
		if r["peak_pct"] != "" && !slices.Contains(cases, r["case"]) {
			cases = append(cases, r["case"])
		}
	}
	peers := d.values("peer")
	slices.SortStableFunc(peers, func(a, b string) int { // Quern's first
		return strings.Index(b, "quern") - strings.Index(a, "quern")
	})
	// The band of case 0 is at the top. Its middle is at the whole number.
	y := func(c, peer int) float64 {
		return float64(len(cases)-1-c) + 0.78*(0.5-(float64(peer)+0.5)/float64(len(peers)))
	}
	const least = 0.5
	p.bands(cases, least, 100)
	for i, peer := range peers {
		var points plotter.XYs
		for _, r := range d.records {
			if share, ok := number(r["peak_pct"]); ok && r["peer"] == peer && r["note"] == "" && share >= least {
				points = append(points, plotter.XY{X: share, Y: y(slices.Index(cases, r["case"]), i)})
			}
		}
		if len(points) > 0 {
			p.marks(peer, i, points)
		}
	}
	p.height = vg.Length(1.8+0.52*float64(len(cases))) * vg.Inch
	logScale(&p.X, least, 100, []float64{0.5, 1, 2, 5, 10, 20, 50, 100}, percent)
	return p
}

// bands sets the vertical axis to names, the first at the top, between horizontal lines.
func (p *picture) bands(names []string, left, right float64) {
	p.Y.Min, p.Y.Max = -0.5, float64(len(names))-0.5
	var ticks plot.ConstantTicks
	for i, name := range names {
		ticks = append(ticks, plot.Tick{Value: float64(len(names) - 1 - i), Label: name})
	}
	p.Y.Tick.Marker, p.Y.Tick.Length = ticks, 0
	g := plotter.NewGrid()
	g.Horizontal.Width, g.Vertical.Color = 0, rule
	g.Horizontal.Color = paper
	p.Add(g)
	for i := range len(names) - 1 {
		l, err := plotter.NewLine(plotter.XYs{{X: left, Y: float64(i) + 0.5}, {X: right, Y: float64(i) + 0.5}})
		check(err)
		l.Color, l.Width = rule, 1
		p.Add(l)
	}
}

func percent(x float64) string { return plainNumber(x) + " %" }

// drawCases has a band for each case that arithmetic limits.
func drawCases(d *data) *picture {
	p := newPicture(d, "Quern: share of the FMA peak, by case and instruction set",
		"100 % = the peak of the same instruction set, measured in turns with the case")
	var cases, labels []string
	shares := map[string]float64{}
	for _, r := range d.records {
		share, ok := number(r["peak_pct"])
		if read, limited := number(r["read_pct"]); !ok || limited && read > share {
			continue
		}
		shares[r["case"]+r["isa"]] = share
		if !slices.Contains(cases, r["case"]) {
			cases = append(cases, r["case"])
			labels = append(labels, r["case"]+"  "+r["what"])
		}
	}
	p.bands(labels, 0, 100)
	levels := d.values("isa")
	for i, level := range levels {
		var points plotter.XYs
		for c, name := range cases {
			if share, ok := shares[name+level]; ok {
				points = append(points, plotter.XY{X: share, Y: float64(len(cases)-1-c) + 0.36*(float64(len(levels)-1)/2-float64(i))})
			}
		}
		p.marks(level, i, points)
	}
	p.height = vg.Length(1.8+0.24*float64(len(cases))) * vg.Inch
	p.X.Min, p.X.Max = 0, max(100, slices.Max(slices.Collect(maps.Values(shares))))
	p.X.Tick.Marker = at([]float64{0, 20, 40, 60, 80, 100}, percent)
	p.X.Label.Text = "share of the FMA peak"
	return p
}

// drawLengths is logarithmic both ways: a slope of 2 is n².
func drawLengths(d *data) *picture {
	p := newPicture(d, "Attention of one head: time against sequence length, by mask",
		"D = 64, float32; packing of Q, K and V included; both axes logarithmic")
	p.grid()
	const shortest, longest = 256, 16384
	var ends plotter.XYs
	for _, power := range []float64{2, 1.5, 1} {
		start := plotter.XY{X: shortest, Y: 4e4}
		end := plotter.XY{X: longest, Y: start.Y * math.Pow(longest/shortest, power)}
		p.guide("", faint, plotter.XYs{start, end})
		ends = append(ends, end)
	}
	p.text(faint, []string{"n²", "n√n", "n"}, ends, slices.Repeat([]vg.Point{{X: 8}}, 3))
	least, most := 4e4, 0.0
	for i, mask := range d.values("mask") {
		var points plotter.XYs
		for _, r := range d.records {
			if r["mask"] == mask {
				n, _ := number(r["length"])
				ns, _ := number(r["ns"])
				points = append(points, plotter.XY{X: n, Y: ns})
				least, most = min(least, ns), max(most, ns)
			}
		}
		p.line(mask, i, points)
	}
	logScale(&p.X, shortest*0.9, longest*1.4, powers(2, shortest, longest), count)
	logScale(&p.Y, least*0.6, most*1.6, powers(10, least*0.6, most*1.6), duration)
	p.X.Label.Text, p.Y.Label.Text = "queries and keys", "time of a call"
	return p
}

// drawDecode has the time of a call and, broken, of reading the same bytes.
func drawDecode(d *data) *picture {
	p := newPicture(d, "Decoding: time of one token against cache length, by type of element",
		fmt.Sprintf("%d query heads, %d key/value heads, D = %d; both axes logarithmic", decodeHeads, decodeKVHeads, decodeDim))
	p.grid()
	broken := &plotter.Line{LineStyle: draw.LineStyle{Color: faint, Width: 1.2, Dashes: []vg.Length{4, 3}}}
	least, most := math.Inf(1), 0.0
	for i, format := range d.values("format") {
		var points, reads plotter.XYs
		for _, r := range d.records {
			if r["format"] == format {
				keys, _ := number(r["keys"])
				ns, _ := number(r["ns"])
				read, _ := number(r["read_ns"])
				points = append(points, plotter.XY{X: keys, Y: ns})
				reads = append(reads, plotter.XY{X: keys, Y: read})
				least, most = min(least, ns, read), max(most, ns, read)
			}
		}
		p.line(format, i, points)
		p.guide("", looks[i].Color, reads)
	}
	p.legend.Add("reading as many bytes", broken)
	logScale(&p.X, 512*0.9, 32768*1.1, powers(2, 512, 32768), count)
	logScale(&p.Y, least*0.7, most*1.4, powers(10, least*0.7, most*1.4), duration)
	p.X.Label.Text, p.Y.Label.Text = "keys in the cache", "time of a token"
	return p
}

// within are those of x from least to most.
func within(x []float64, least, most float64) []float64 {
	return slices.DeleteFunc(x, func(v float64) bool { return v < least || v > most })
}

// drawRoofline is Williams, Waterman and Patterson's: no kernel is above the lines.
func drawRoofline(d *data) *picture {
	p := newPicture(d, "Roofline: rate against arithmetic intensity",
		"bytes: each input and output once; what is above a slope has its data in a nearer cache; both axes logarithmic")
	p.grid()
	const left, right = 0.1, 2000
	var top, bottom float64 = 0, math.Inf(1)
	for _, r := range d.records {
		rate, _ := number(r["gflops"])
		if r["kind"] == "peak" {
			top = max(top, rate)
		}
	}
	dashes := [][]vg.Length{nil, {8, 3}, {2, 2}} // of the three memories
	for _, r := range d.records {
		rate, _ := number(r["gflops"])
		switch r["kind"] {
		case "peak":
			p.guide("", ink, plotter.XYs{{X: left, Y: rate}, {X: right, Y: rate}})
			p.text(ink, []string{fmt.Sprintf("peak, %s: %.0f", r["name"], rate)}, plotter.XYs{{X: 1.4, Y: rate}}, []vg.Point{{X: 1, Y: 7}})
		case "read":
			p.guide(fmt.Sprintf("%s: %.0f GB/s", r["name"], rate), faint, plotter.XYs{{X: left, Y: rate * left}, {X: top / rate, Y: top}}).Dashes = dashes[0]
			dashes = dashes[1:]
			bottom = min(bottom, rate*left)
		}
	}
	next, previous := 1, math.NaN()
	for i, kind := range []string{"attention", "matmul", "decode", "dot"} {
		for _, r := range d.records {
			if r["kind"] != kind {
				continue
			}
			x, _ := number(r["flop_per_byte"])
			y, _ := number(r["gflops"])
			point := plotter.XYs{{X: x, Y: y}}
			p.marks(fmt.Sprintf("%d  %s", next, r["name"]), i, point)
			// Neighbours have their numbers on different sides, and so has a type that is as fast as the one before.
			offset := vg.Point{Y: 10}
			if kind == "attention" || kind == "decode" && !(math.Abs(y/previous-1) < 0.1) {
				offset.Y = -10
			}
			previous = y
			p.text(ink, []string{fmt.Sprint(next)}, point, []vg.Point{offset})
			next++
		}
	}
	p.height = 6.2 * vg.Inch
	logScale(&p.X, left, right, powers(10, left, right), plainNumber)
	logScale(&p.Y, bottom, top*1.5, within([]float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}, bottom, top*1.5), plainNumber)
	p.X.Label.Text, p.Y.Label.Text = "FLOPs per byte", "GFLOP/s"
	return p
}
