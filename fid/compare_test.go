package fid

import (
	"context"
	"encoding/json"
	"errors"
	"sort"
	"strings"
	"testing"
)

func alike(s *Stats, preset string) *Stats {
	s.Provenance = &Provenance{Version: "v", Device: "cpu", Input: "in", Extractor: ExtractorInfo{
		Name: "random", SHA256: "ab", Dim: s.Dim(), Preset: preset, Precision: "fp32", Note: "random weights",
	}}
	return s
}

// The keys of the JSON are a promise to scripts.
func TestResultJSON(t *testing.T) {
	p := newPair(5, 0.2)
	a, b := p.draw(t, 1, 80)
	res, err := Compare(context.Background(), alike(a, "clean"), alike(b, "clean"), Options{CI: true, Version: "v0"})
	if err != nil {
		t.Fatal(err)
	}
	res.Seconds.Metric = 0
	text, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Metrics map[string]map[string]any
		Rest    map[string]any
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got.Rest); err != nil {
		t.Fatal(err)
	}
	fidKeys, top := keys(got.Metrics["fid"]), keys(got.Rest)
	if fidKeys != "ci ci_level cov_term mean_term value" || top != "device extractor metrics n notes precision preset schema seconds skipped version" {
		t.Errorf("keys %q and %q", fidKeys, top)
	}
	for _, want := range []string{
		`"n":{"ref":80,"gen":80}`, `"preset":"clean"`, `"extractor":{"name":"random","sha256":"ab","dim":5}`, `"device":"cpu"`, `"precision":"fp32"`,
		`"seconds":{"read":0,"features":0,"metric":0}`, `"skipped":[]`, `"schema":1`, `"version":"v0"`, `"ci_level":0.95`, `"random weights"`, `"ci":[`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	v := res.Metrics["fid"].(FIDValue)
	if v.Number() != v.MeanTerm+v.CovTerm || v.CI[0] > v.CI[1] {
		t.Errorf("%+v", v)
	}
}

func keys(m map[string]any) string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func TestCompareWithoutFeatures(t *testing.T) {
	p := newPair(5, 0.2)
	a, b := p.draw(t, 1, 80)
	b.Features = nil
	res, err := Compare(context.Background(), a, b, Options{CI: true})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(res)
	for _, want := range []string{`"ci":null`, "no confidence interval: a confidence interval needs the feature vectors", `"preset":"unknown"`, "nothing tells how"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
}

func TestCompareUnlike(t *testing.T) {
	p := newPair(5, 0.2)
	a, b := p.draw(t, 1, 80)
	alike(a, "clean")
	alike(b, "pytorch-fid")
	_, err := Compare(context.Background(), a, b, Options{})
	var bad *BadInputError
	if !errors.Is(err, ErrUnlike) || !errors.As(err, &bad) || !strings.Contains(err.Error(), `preset "clean" and "pytorch-fid"`) {
		t.Errorf("error %v", err)
	}
	res, err := Compare(context.Background(), a, b, Options{Force: true})
	if err != nil || res.Preset != "mixed" || res.Extractor.Name != "random" || !strings.HasPrefix(res.Notes[0], "mixed: ") {
		t.Errorf("forced: %+v, %v", res, err)
	}
}

// What differs without forbidding the comparison is said.
func TestCompareNotes(t *testing.T) {
	p := newPair(5, 0.2)
	a, b := p.draw(t, 1, 80)
	alike(a, "clean").Provenance.Decoders = []string{"image/png"}
	alike(b, "clean").Provenance.Decoders = []string{"libjpeg-turbo 2.1.5"}
	b.Provenance.Device = "cuda:0"
	b.Provenance.Notes = []string{"3 images are gray"}
	res, err := Compare(context.Background(), a, b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(res.Notes, "\n")
	for _, want := range []string{"decoded by image/png, the generated set by libjpeg-turbo", "different devices (cpu and cuda:0)", "generated: 3 images are gray", "random weights"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes %q lack %q", notes, want)
		}
	}
	if strings.Count(notes, "random weights") != 1 {
		t.Errorf("the extractor's label is repeated: %q", notes)
	}
}

func TestUnknownMetric(t *testing.T) {
	p := newPair(3, 0.2)
	a, b := p.draw(t, 1, 30)
	_, err := Compare(context.Background(), a, b, Options{Metrics: []string{"fid", "fjd"}})
	if !errors.Is(err, ErrUnknownMetric) || !strings.Contains(err.Error(), `"fjd"; there is `) || !strings.Contains(err.Error(), "fid") {
		t.Errorf("error %v", err)
	}
	for _, m := range Metrics() {
		if m.Name == "" || m.Summary == "" || CheckMetrics([]string{m.Name}) != nil {
			t.Errorf("metric %+v", m)
		}
	}
}
