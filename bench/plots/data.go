package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/quern-go/quern/internal/measure"
)

// data is a CSV file: lines "# key: value", then a line of column names, then records.
type data struct {
	keys    []string // in order
	about   map[string]string
	columns []string
	records []map[string]string
}

// newData is without records, from this machine and today.
func newData(set string, columns ...string) *data {
	d := &data{about: map[string]string{}, columns: columns}
	d.say("cpu", measure.CPUName())
	d.say("go", runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH)
	d.say("date", time.Now().UTC().Format("2 January 2006"))
	d.say("command", "cd bench/plots && go run . -measure "+set)
	return d
}

// say adds something that is to be known of the data.
func (d *data) say(key, value string) {
	d.keys = append(d.keys, key)
	d.about[key] = value
}

// add adds a record: text, or numbers, which get four digits.
func (d *data) add(values ...any) {
	record := map[string]string{}
	for i, v := range values {
		if x, ok := v.(float64); ok {
			v = strconv.FormatFloat(x, 'g', 4, 64)
		}
		record[d.columns[i]] = fmt.Sprint(v)
	}
	d.records = append(d.records, record)
}

func (d *data) write(file string) error {
	var text bytes.Buffer
	for _, key := range d.keys {
		fmt.Fprintf(&text, "# %s: %s\n", key, d.about[key])
	}
	w := csv.NewWriter(&text)
	_ = w.Write(d.columns)
	for _, r := range d.records {
		var line []string
		for _, c := range d.columns {
			line = append(line, r[c])
		}
		_ = w.Write(line)
	}
	w.Flush()
	return os.WriteFile(file, text.Bytes(), 0o644)
}

func readData(file string) (*data, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := &data{about: map[string]string{}}
	for line := range strings.Lines(string(text)) {
		if comment, ok := strings.CutPrefix(line, "# "); ok {
			key, value, _ := strings.Cut(strings.TrimSpace(comment), ": ")
			d.say(key, value)
		}
	}
	r := csv.NewReader(bytes.NewReader(text))
	r.Comment = '#'
	lines, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(lines) < 2 {
		return nil, fmt.Errorf("%s: no records", file)
	}
	d.columns = lines[0]
	for _, line := range lines[1:] {
		record := map[string]string{}
		for i, c := range d.columns {
			record[c] = line[i]
		}
		d.records = append(d.records, record)
	}
	return d, nil
}

// values are those of one column, each once, in order.
func (d *data) values(column string) []string {
	var all []string
	seen := map[string]bool{}
	for _, r := range d.records {
		if v := r[column]; !seen[v] {
			seen[v] = true
			all = append(all, v)
		}
	}
	return all
}

// number reads a field; ok is false if it is empty.
func number(field string) (x float64, ok bool) {
	x, err := strconv.ParseFloat(field, 64)
	return x, err == nil
}
