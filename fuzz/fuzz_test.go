package fuzz

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/quern-go/quern/internal/isa"
)

func FuzzDot(f *testing.F)         { fuzzKernel(f, "Dot") }
func FuzzExp(f *testing.F)         { fuzzKernel(f, "ExpArray") }
func FuzzSoftmaxTile(f *testing.F) { fuzzKernel(f, "SoftmaxTile") }
func FuzzProduct(f *testing.F)     { fuzzKernel(f, "Product") }

func FuzzNarrowBF16(f *testing.F)  { fuzzKernel(f, "NarrowBF16") }
func FuzzNarrowF16(f *testing.F)   { fuzzKernel(f, "NarrowF16") }
func FuzzDotPairBF16(f *testing.F) { fuzzKernel(f, "DotPairBF16") }
func FuzzL2RowsInt8(f *testing.F)  { fuzzKernel(f, "L2RowsInt8") }
func FuzzCosineRows(f *testing.F)  { fuzzKernel(f, "CosineRowsF16") }
func FuzzCosineInt8(f *testing.F)  { fuzzKernel(f, "CosineInt8") }
func FuzzHammingRows(f *testing.F) { fuzzKernel(f, "HammingRows") }

// fuzzKernel lets the fuzzer choose the size, the place and, as far as its bytes reach, the numbers;
// the seed draws what remains.
func fuzzKernel(f *testing.F, name string) {
	k := kernels[slices.IndexFunc(kernels, func(k kernel) bool { return k.name == name })]
	var specials []byte
	for _, bits := range Specials {
		specials = binary.LittleEndian.AppendUint32(specials, bits)
		specials = binary.LittleEndian.AppendUint32(specials, bits|1<<31)
	}
	for _, size := range []int{1, k.most / 2, k.most} {
		f.Add(uint64(size), uint8(size), uint8(size), []byte(nil))
		f.Add(uint64(size), uint8(size), uint8(0), specials)
	}
	f.Fuzz(func(t *testing.T, seed uint64, size, place uint8, numbers []byte) {
		pool := &pool{t: t}
		for _, level := range isa.Supported() {
			d := &draw{Source: NewSource(seed, 0), at: Place(place%(offsets+1)) - 1, pool: pool}
			d.raw = numbers
			if err := d.compare(level, k.arguments(d, int(size)%(k.most+1))); err != nil {
				t.Error(err)
			}
		}
	})
}
