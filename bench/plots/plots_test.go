package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDraw draws every chart from the committed data, and looks at what comes out.
func TestDraw(t *testing.T) {
	folder := t.TempDir()
	for _, c := range charts {
		text, err := os.ReadFile(filepath.Join("..", "results", c.name+".csv"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, c.name+".csv"), text, 0o644))
	}
	require.NoError(t, run("", folder, io.Discard))
	for _, c := range charts {
		t.Run(c.name, func(t *testing.T) {
			d, err := readData(filepath.Join(folder, c.name+".csv"))
			require.NoError(t, err)
			for _, key := range []string{"cpu", "date", "command"} {
				require.NotEmpty(t, d.about[key], key)
			}

			svg, err := os.ReadFile(filepath.Join(folder, c.name+".svg"))
			require.NoError(t, err)
			var texts []string
			for x := xml.NewDecoder(bytes.NewReader(svg)); ; {
				token, err := x.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				if text, ok := token.(xml.CharData); ok {
					texts = append(texts, string(text))
				}
			}
			require.Contains(t, texts, d.about["command"])

			image, err := os.Open(filepath.Join(folder, c.name+".png"))
			require.NoError(t, err)
			defer image.Close()
			picture, err := png.Decode(image)
			require.NoError(t, err)
			require.Greater(t, picture.Bounds().Dx(), 1000)
			_, _, _, alpha := picture.At(0, 0).RGBA()
			require.EqualValues(t, 0xffff, alpha, "the card is opaque")
		})
	}
}

// TestData writes and reads back.
func TestData(t *testing.T) {
	d := newData("lengths", "mask", "length", "ns")
	d.say("isa", "avx2")
	d.add("strided, l", 256, 1234567.8)
	file := filepath.Join(t.TempDir(), "x.csv")
	require.NoError(t, d.write(file))
	back, err := readData(file)
	require.NoError(t, err)
	require.Equal(t, d, back)
	require.Equal(t, "1.235e+06", back.records[0]["ns"])
}

func TestUnknownSet(t *testing.T) {
	require.ErrorContains(t, run("lengths,nothing", t.TempDir(), io.Discard), `no set "nothing"`)
}

// TestLooksDiffer: no two series have the same colour or the same shape.
func TestLooksDiffer(t *testing.T) {
	for i, a := range looks {
		for _, b := range looks[:i] {
			require.NotEqual(t, a.Color, b.Color)
			require.NotEqual(t, a.Shape, b.Shape)
		}
	}
}

// TestReadme: the table in the README is that of the committed data, and its links lead somewhere.
func TestReadme(t *testing.T) {
	d, err := readData(filepath.Join("..", "results", "peers.csv"))
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	require.Contains(t, string(readme), tableBegin+peersTable(d)+tableEnd, "go run . in bench/plots writes it")
	for _, c := range charts {
		require.Contains(t, string(readme), "bench/results/"+c.name+".svg")
	}
}

func TestTable(t *testing.T) {
	d := newData("peers", "case", "peer", "version", "ns_median", "note")
	d.about["cpu"], d.about["date"] = "CPU", "today"
	d.add("dot 1", "quern avx2", "", 1234.0, "")
	d.add("dot 1", "quern avx2, packed", "", 1.0, "")
	d.add("dot 1", "onnxruntime", "1.2", "", "left out")
	d.add("dot 1", "vek", "v1", 999.6, "")
	d.add("dot 1", "gonum", "v1", 1001.0, "")
	d.add("dot 1", "liar", "v1", 1.0, "wrong")
	d.add("dot 1", "plain Go", "", 2e9, "")
	require.Equal(t, `| CPU, one thread, today | quern avx2 | ONNX Runtime 1.2 | fastest other Go package | plain Go |
|---|---|---|---|---|
| dot 1 | 1.23 µs | – | **1 µs** vek | 2 s |
`, peersTable(d))
}
