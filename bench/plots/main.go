// Command plots measures how Quern's times grow and draws charts of them, as SVG and PNG.
//
//	go run .                         draw all charts from the data in ../results, and write the README's table
//	go run . -measure all            measure everything first, about ten minutes
//	go run . -measure lengths,decode
//
// Each set of data is a CSV file, whose first lines say on what CPU, when and by which command it was
// measured; the chart repeats them. The sets:
//
//	peers     other packages beside Quern: what ../peers writes
//	cases     the cases of ../../bench, as shares of the peak, on every instruction set
//	lengths   attention of one head over 256 to 16384 keys, by mask
//	decode    one query over caches of 512 to 32768 keys, by type of element
//	roofline  rates of kernels against the intensity of their arithmetic, and the limits of the machine
//
// All run on one thread. Times are CPU times, the median of several rounds. On Linux it is better to hold everything to one CPU: taskset -c 0 go run . -measure all
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/quern-go/quern/kernel"
)

// chart is a set of data and its picture.
type chart struct {
	name    string
	measure func(note func(string)) (*data, error)
	draw    func(*data) *picture
}

var charts = []chart{
	{"peers", measurePeers, drawPeers},
	{"cases", measureCases, drawCases},
	{"lengths", measureLengths, drawLengths},
	{"decode", measureDecode, drawDecode},
	{"roofline", measureRoofline, drawRoofline},
}

func main() {
	sets := flag.String("measure", "", `measure these sets of data first, separated by commas, or "all"`)
	folder := flag.String("results", filepath.Join("..", "results"), "folder of the data and the charts")
	readme := flag.String("readme", filepath.Join("..", "..", "README.md"), "file that has the table of peers; empty for none")
	flag.Parse()
	err := run(*sets, *folder, os.Stderr)
	if err == nil && *readme != "" {
		err = updateReadme(*readme, *folder)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(sets, folder string, stderr io.Writer) error {
	if err := kernel.ISAError(); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	if err := remeasure(sets, folder, stderr); err != nil {
		return err
	}
	for _, c := range charts {
		d, err := readData(filepath.Join(folder, c.name+".csv"))
		if errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(stderr, "%s: not measured\n", c.name)
			continue
		}
		if err != nil {
			return err
		}
		if err := c.draw(d).save(filepath.Join(folder, c.name)); err != nil {
			return err
		}
	}
	return nil
}

// remeasure writes the sets of a list with commas.
func remeasure(sets, folder string, stderr io.Writer) error {
	if sets == "" {
		return nil
	}
	chosen := strings.Split(sets, ",")
	for _, name := range chosen {
		if name != "all" && !slices.ContainsFunc(charts, func(c chart) bool { return c.name == name }) {
			return fmt.Errorf("plots: there is no set %q", name)
		}
	}
	for _, c := range charts {
		if sets != "all" && !slices.Contains(chosen, c.name) {
			continue
		}
		d, err := c.measure(func(what string) { fmt.Fprintf(stderr, "%s: %s\n", c.name, what) })
		if err != nil {
			return err
		}
		if err := d.write(filepath.Join(folder, c.name+".csv")); err != nil {
			return err
		}
	}
	return nil
}
