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
			for x := xml.NewDecoder(bytes.NewReader(svg)); ; {
				_, err := x.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
			}
			require.Contains(t, string(svg), d.about["command"])

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
