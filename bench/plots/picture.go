package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The card that all charts are drawn on is opaque and nearly white, so that a page in dark colours shows
// the same picture.
var (
	paper = color.RGBA{0xfc, 0xfc, 0xfa, 0xff}
	ink   = color.RGBA{0x22, 0x22, 0x22, 0xff}
	faint = color.RGBA{0x66, 0x66, 0x66, 0xff}
	rule  = color.RGBA{0xdd, 0xdd, 0xd8, 0xff}
)

// looks are the colours and shapes of series, in order. The first seven colours are those of Okabe and
// Ito, which people who do not see all colours can tell apart, without the yellow, which white swallows.
// Shapes tell series apart without colours.
var looks = []draw.GlyphStyle{
	{Color: color.RGBA{0x00, 0x72, 0xb2, 0xff}, Shape: draw.CircleGlyph{}},
	{Color: color.RGBA{0xd5, 0x5e, 0x00, 0xff}, Shape: hollow{draw.PyramidGlyph{}}},
	{Color: color.RGBA{0x00, 0x9e, 0x73, 0xff}, Shape: draw.BoxGlyph{}},
	{Color: color.RGBA{0xcc, 0x79, 0xa7, 0xff}, Shape: diamond{}},
	{Color: color.RGBA{0xe6, 0x9f, 0x00, 0xff}, Shape: draw.PyramidGlyph{}},
	{Color: color.RGBA{0x56, 0xb4, 0xe9, 0xff}, Shape: hollow{draw.BoxGlyph{}}},
	{Color: color.RGBA{0x00, 0x00, 0x00, 0xff}, Shape: bars{math.Pi / 4}},
	{Color: color.RGBA{0x80, 0x80, 0x80, 0xff}, Shape: bars{}},
	{Color: color.RGBA{0x8c, 0x56, 0x2b, 0xff}, Shape: hollow{draw.CircleGlyph{}}},
	{Color: color.RGBA{0x88, 0x22, 0x55, 0xff}, Shape: hollow{diamond{}}},
}

// look is the look of series i.
func look(i int) draw.GlyphStyle {
	g := looks[i%len(looks)]
	g.Radius = vg.Points(4)
	return g
}

// diamond is a filled square on its corner.
type diamond struct{}

func (diamond) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	r := s.Radius * 1.2
	c.SetColor(s.Color)
	var p vg.Path
	p.Move(vg.Point{X: at.X, Y: at.Y + r})
	p.Line(vg.Point{X: at.X + r, Y: at.Y})
	p.Line(vg.Point{X: at.X, Y: at.Y - r})
	p.Line(vg.Point{X: at.X - r, Y: at.Y})
	p.Close()
	c.Fill(p)
}

// hollow is a filled shape with paper inside: the package's own hollow shapes have hairlines.
type hollow struct{ draw.GlyphDrawer }

func (h hollow) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	h.GlyphDrawer.DrawGlyph(c, s, at)
	s.Color = paper
	s.Radius *= 0.58
	c.SetColor(s.Color)
	h.GlyphDrawer.DrawGlyph(c, s, at)
}

// bars is a plus sign, turned by an angle.
type bars struct{ angle float64 }

func (b bars) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	for _, angle := range []float64{b.angle, b.angle + math.Pi/2} {
		x, y := s.Radius*vg.Length(math.Cos(angle)), s.Radius*vg.Length(math.Sin(angle))
		c.StrokeLine2(draw.LineStyle{Color: s.Color, Width: 1.6}, at.X-x, at.Y-y, at.X+x, at.Y+y)
	}
}

// picture is a plot with a title above, a legend to the right and the origin of the data below.
type picture struct {
	*plot.Plot
	title, subtitle string
	legend          plot.Legend
	footer          string
	height          vg.Length
}

const width = 9 * vg.Inch

func newPicture(d *data, title, subtitle string) *picture {
	p := &picture{Plot: plot.New(), title: title, subtitle: subtitle, legend: plot.NewLegend(), height: 5.2 * vg.Inch}
	p.BackgroundColor = paper
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color, axis.Label.TextStyle.Color = faint, ink
		axis.Label.TextStyle.Font.Size, axis.Tick.Label.Font.Size = 11, 10.5
		axis.Label.TextStyle.Font.Variant, axis.Tick.Label.Font.Variant = "Sans", "Sans"
		axis.Label.Padding = 5
		axis.Tick.Label.Color, axis.Tick.Color = ink, faint
	}
	p.legend.TextStyle = style(10.5, ink)
	p.legend.TextStyle.YAlign = draw.YBottom // what the height of an entry is measured by
	p.legend.Top, p.legend.Left = true, true
	p.legend.ThumbnailWidth, p.legend.Padding = 22, 5
	var about []string
	for _, key := range []string{"cpu", "isa", "go", "date"} {
		if d.about[key] != "" {
			about = append(about, d.about[key])
		}
	}
	p.footer = strings.Join(about, " · ") + ", one thread\n" + d.about["command"]
	return p
}

// style is a sans-serif text.
func style(size font.Length, c color.Color) draw.TextStyle {
	t := plot.New().Title.TextStyle
	t.Font = font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size)
	t.Color, t.XAlign, t.YAlign = c, draw.XLeft, draw.YTop
	return t
}

// save writes file.svg and file.png.
func (p *picture) save(file string) error {
	svg := vgsvg.NewWith(vgsvg.UseWH(width, p.height))
	p.paint(draw.New(svg))
	var text bytes.Buffer
	if _, err := svg.WriteTo(&text); err != nil {
		return err
	}
	// Few machines have the typeface; these are as wide, or at least sans-serif.
	out := bytes.ReplaceAll(text.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif"))
	if err := os.WriteFile(file+".svg", out, 0o644); err != nil {
		return err
	}
	image := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, p.height), vgimg.UseDPI(144))}
	p.paint(draw.New(image))
	var png bytes.Buffer
	if _, err := image.WriteTo(&png); err != nil {
		return err
	}
	return os.WriteFile(file+".png", png.Bytes(), 0o644)
}

func (p *picture) paint(c draw.Canvas) {
	c.SetColor(paper)
	c.Fill(c.Rectangle.Path())
	const margin = 12
	c = draw.Crop(c, margin, -margin, margin, -margin)
	c.FillText(style(14, ink), vg.Point{X: c.Min.X, Y: c.Max.Y}, p.title)
	c.FillText(style(10.5, faint), vg.Point{X: c.Min.X, Y: c.Max.Y - 20}, p.subtitle)
	c.FillText(style(8.5, faint), vg.Point{X: c.Min.X, Y: c.Min.Y + 20}, p.footer)
	body := draw.Crop(c, 0, 0, 30, -44)
	side := body.Max.X - body.Min.X - p.legend.Rectangle(body).Size().X
	p.Draw(draw.Crop(body, 0, side-(body.Max.X-body.Min.X)-14, 0, 0))
	p.legend.Draw(draw.Crop(body, side, 0, 0, -4))
}

// line adds a line through points with its marks, and names it.
func (p *picture) line(name string, i int, points plotter.XYs) {
	marks := p.marks("", i, points)
	l, err := plotter.NewLine(points)
	check(err)
	l.Color, l.Width = looks[i].Color, 1.6
	p.Add(l)
	p.legend.Add(name, l, marks)
}

// marks adds points, and names them unless the name is empty.
func (p *picture) marks(name string, i int, points plotter.XYs) *plotter.Scatter {
	s, err := plotter.NewScatter(points)
	check(err)
	s.GlyphStyle = look(i)
	p.Add(s)
	if name != "" {
		p.legend.Add(name, s)
	}
	return s
}

// guide adds a thin line, broken unless that is changed, and names it unless the name is empty.
func (p *picture) guide(name string, c color.Color, points plotter.XYs) *plotter.Line {
	l, err := plotter.NewLine(points)
	check(err)
	l.Color, l.Width, l.Dashes = c, 1.2, []vg.Length{4, 3}
	p.Add(l)
	if name != "" {
		p.legend.Add(name, l)
	}
	return l
}

// text adds small texts at points, each moved by its offset: to the side that the offset points to.
func (p *picture) text(c color.Color, texts []string, points plotter.XYs, offsets []vg.Point) {
	for i := range texts {
		l, err := plotter.NewLabels(plotter.XYLabels{XYs: points[i : i+1], Labels: texts[i : i+1]})
		check(err)
		l.TextStyle[0] = style(9, c)
		l.TextStyle[0].XAlign, l.TextStyle[0].YAlign = draw.XCenter, draw.YCenter
		switch {
		case offsets[i].X > 0:
			l.TextStyle[0].XAlign = draw.XLeft
		case offsets[i].X < 0:
			l.TextStyle[0].XAlign = draw.XRight
		}
		l.Offset = offsets[i]
		p.Add(l)
	}
}

// grid adds lines at the marked ticks.
func (p *picture) grid() {
	g := plotter.NewGrid()
	g.Horizontal.Color, g.Vertical.Color = rule, rule
	p.Add(g)
}

// logScale makes an axis logarithmic, with the ticks given.
func logScale(a *plot.Axis, least, most float64, ticks []float64, label func(float64) string) {
	a.Scale, a.Min, a.Max = plot.LogScale{}, least, most
	a.Tick.Marker = at(ticks, label)
}

// at puts ticks where they are given.
func at(ticks []float64, label func(float64) string) plot.ConstantTicks {
	var t plot.ConstantTicks
	for _, x := range ticks {
		t = append(t, plot.Tick{Value: x, Label: label(x)})
	}
	return t
}

// powers are those of base from least to most.
func powers(base, least, most float64) []float64 {
	var all []float64
	for x := math.Pow(base, math.Ceil(math.Log(least)/math.Log(base)-1e-9)); x <= most*1.0001; x *= base {
		all = append(all, x)
	}
	return all
}

// plain writes a number as it is.
func plainNumber(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

// count writes a power of two: 512, 2 K.
func count(x float64) string {
	if x >= 1024 {
		return fmt.Sprintf("%.0f K", x/1024)
	}
	return plainNumber(x)
}

// duration writes nanoseconds in a unit that suits.
func duration(ns float64) string {
	for _, u := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.ns*0.999 {
			return plainNumber(math.Round(ns/u.ns*1e3)/1e3) + " " + u.name
		}
	}
	return plainNumber(ns) + " ns"
}
