// Command demopage makes one page, and tables on standard output, of several
// results of fidlab fid --json, of fidlab data check --json, and of contact
// sheets. scripts/demo.sh calls it:
//
//	go run ./scripts/demopage -o page.html 'label=result.json'... 'label=check.json'... 'label=sheet.png'...
//
// The first result is the floor that the others are seen against.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/tensor"
)

// result is what is used of the JSON of fidlab fid.
type result struct {
	label   string
	Metrics struct {
		FID struct {
			Value float64     `json:"value"`
			CI    *[2]float64 `json:"ci"`
			Level float64     `json:"ci_level"`
		} `json:"fid"`
	} `json:"metrics"`
	N struct {
		Ref int `json:"ref"`
		Gen int `json:"gen"`
	} `json:"n"`
	Preset    string `json:"preset"`
	Extractor struct {
		Name   string `json:"name"`
		SHA256 string `json:"sha256"`
		Dim    int    `json:"dim"`
	} `json:"extractor"`
	Device    string `json:"device"`
	Precision string `json:"precision"`
	Version   string `json:"version"`
}

// interval is the confidence interval, NaN without one.
func (r *result) interval() (lo, hi float64) {
	if r.Metrics.FID.CI == nil {
		return math.NaN(), math.NaN()
	}
	return r.Metrics.FID.CI[0], r.Metrics.FID.CI[1]
}

// check is what is used of the JSON of fidlab data check on scenes that were drawn by captions.
type check struct {
	label  string
	N      int `json:"n"`
	Counts []struct {
		Name string  `json:"name"`
		Hits int     `json:"hits"`
		Of   int     `json:"of"`
		Low  float64 `json:"low"`
		High float64 `json:"high"`
	} `json:"counts"`
}

type sheet struct {
	label string
	png   []byte
}

func main() {
	out := flag.String("o", "", "the page to write")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "demopage:", err)
		os.Exit(1)
	}
}

func run(out string, args []string) error {
	var results []result
	var checks []check
	var sheets []sheet
	for _, arg := range args {
		label, path, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q: want label=FILE", arg)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Ext(path) == ".png" {
			sheets = append(sheets, sheet{label, b})
			continue
		}
		c := check{label: label}
		var kind struct {
			Counts json.RawMessage `json:"counts"`
		}
		r := result{label: label}
		if err := json.Unmarshal(b, &kind); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if kind.Counts == nil {
			if err := json.Unmarshal(b, &r); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			results = append(results, r)
			continue
		}
		if err := json.Unmarshal(b, &c); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		checks = append(checks, c)
	}
	if out == "" || len(results) == 0 {
		return errors.New("want -o PAGE and at least one label=result.json")
	}
	table := tableOf(results)
	if err := table.WriteText(os.Stdout); err != nil {
		return err
	}
	if len(checks) > 0 {
		fmt.Println()
		if err := shareTable(checks).WriteText(os.Stdout); err != nil {
			return err
		}
	}
	page := pageOf(results, table, checks, sheets)
	return tensor.WriteAtomic(out, page.WriteHTML, tensor.Overwrite)
}

func tableOf(results []result) report.Table {
	t := report.Table{Columns: report.Columns("Set", "n>", "FID>", "95 % interval>")}
	for _, r := range results {
		lo, hi := r.interval()
		span := "—"
		if lo < hi {
			span = report.Range(r.Metrics.FID.Value, lo, hi)
		}
		t.Rows = append(t.Rows, []string{r.label, report.Count(r.N.Gen), report.Number(r.Metrics.FID.Value, lo, hi), span})
	}
	return t
}

// shares are the counts that are shown, with what they are called.
var shares = map[string]string{"binding": "objects of the asked shape and colour", "nothing else": "scenes with nothing else", "caption": "scenes where all of the caption holds"}

func shareTable(checks []check) report.Table {
	t := report.Table{Columns: report.Columns("Set", "Scenes>", "Read", "Share>", "95 % interval>")}
	for _, c := range checks {
		for _, n := range c.Counts {
			what, ok := shares[n.Name]
			if !ok || n.Of == 0 {
				continue
			}
			share := 100 * float64(n.Hits) / float64(n.Of)
			t.Rows = append(t.Rows, []string{c.label, report.Count(c.N), what, fmt.Sprintf("%.1f %%", share), fmt.Sprintf("%.1f to %.1f", 100*n.Low, 100*n.High)})
		}
	}
	return t
}

func pageOf(results []result, table report.Table, checks []check, sheets []sheet) *report.Page {
	first := results[0]
	var figures report.Figures
	chart := report.Chart{Caption: "Each set against the same reference, with its interval", Unit: "FID[" + first.Extractor.Name + "]", Log: true}
	for _, r := range results {
		lo, hi := r.interval()
		detail := fmt.Sprintf("%s images", report.Count(r.N.Gen))
		if lo < hi {
			detail = fmt.Sprintf("%g %%: %s; %s", 100*r.Metrics.FID.Level, report.Range(r.Metrics.FID.Value, lo, hi), detail)
		}
		figures = append(figures, report.Figure{Name: r.label, Value: report.Number(r.Metrics.FID.Value, lo, hi), Detail: detail})
		chart.Rows = append(chart.Rows, report.Row{Label: r.label, Value: r.Metrics.FID.Value, Lo: lo, Hi: hi})
	}
	result := report.Section{
		Title:  "Distances to the MNIST training set",
		Text:   "Lower is nearer. Real test images are the floor: no generator should be expected below it. Few images raise a distance, so compare sets of equal n; the intervals are those of the distance that more and more images would converge to.",
		Blocks: []report.Block{figures, chart, table, report.Note{Text: "The features are those of a small digit classifier, not of Inception: these numbers compare with each other and with nothing published."}},
	}
	pictures := report.Section{Title: "What was scored"}
	for _, s := range sheets {
		pictures.Blocks = append(pictures.Blocks, report.Image{PNG: s.png, Alt: "contact sheet of the first pictures: " + s.label, Caption: s.label, Crisp: true})
	}
	sections := []report.Section{result}
	if len(checks) > 0 {
		sections = append(sections, report.Section{
			Title:  "Scenes drawn by captions",
			Text:   "What an exact reader of such scenes finds of what the captions ask for; an object of which it is not sure counts as not there. Intervals are Wilson's.",
			Blocks: []report.Block{shareTable(checks)},
		})
	}
	if len(sheets) > 0 {
		sections = append(sections, pictures)
	}
	sections = append(sections, report.Section{
		Title: "On your own images",
		Text:  "FID proper needs the published Inception weights once; fidlab weights list says what to get.",
		Blocks: []report.Block{report.Commands{Lines: []string{
			"bin/fidlab weights import pt_inception-2015-12-05-6726825d.pth",
			"bin/fidlab fid path/to/real path/to/generated --report report.html",
		}}},
	})
	return &report.Page{
		Title:    "fidlab: a first light",
		Lead:     fmt.Sprintf("Drawn digits, real digits and noise, all against the %s training images of MNIST.", report.Count(first.N.Ref)),
		Sections: sections,
		Facts: []report.Fact{
			{Name: "extractor", Value: fmt.Sprintf("%s, %d features", first.Extractor.Name, first.Extractor.Dim)},
			{Name: "weights", Value: first.Extractor.SHA256},
			{Name: "preset", Value: first.Preset},
			{Name: "precision", Value: first.Precision},
			{Name: "device", Value: first.Device},
		},
		Footer: "fidlab " + first.Version,
	}
}
