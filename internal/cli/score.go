package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/data/folder"
	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
	"github.com/fidlab/fidlab/text"
)

type scoreOptions struct {
	input    string
	captions string
	vocab    string
	rule     string
	each     target
	x        extraction
}

func newScore(a *app) *cobra.Command {
	var o scoreOptions
	var rules []string
	long := `Score how well images fit their texts: the mean over all pairs of the cosine
between CLIP's vectors of an image and of its text, CLIPScore. An image with
several texts makes several pairs. The value alone goes to standard output.

Rules, whose figures are not comparable:
`
	for _, r := range fid.CLIPScoreRules {
		rules = append(rules, r.Name)
		long += fmt.Sprintf("  %-14s%s", r.Name, r.Source)
		if r.Prefix != "" {
			long += fmt.Sprintf(";\n  %-14severy text begins with %q", "", r.Prefix)
		}
		long += "\n"
	}
	cmd := &cobra.Command{
		Use:   "score IMAGES --captions FILE --vocab FILE",
		Short: "Score how well images fit their texts: CLIPScore",
		Long: long + `
CLIP's weights and vocabulary are files that you get: see fidlab extractors, and
bpe_simple_vocab_16e6.txt.gz of openai/CLIP, or the folder of a Hugging Face model
with vocab.json and merges.txt. Texts of more than 77 tokens are cut, and counted.`,
		Example: `  fidlab score pictures/ --captions txt --weights ViT-B-32.pt --vocab bpe_simple_vocab_16e6.txt.gz
  fidlab score pictures/ --captions texts.jsonl --features clip-vit-l14 --rule torchmetrics --vocab clip/ --json`,
		Args: nargs("one set of images", 1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.input = args[0]
			return runScore(cmd.Context(), a, &o)
		},
	}
	o.x.flags(cmd)
	f := cmd.Flags()
	f.Lookup("features").Usage = "the CLIP to score with: `NAME` is " + strings.Join(extract.CLIPNames(), ", ") + "; default: that of the rule"
	f.StringVar(&o.captions, "captions", "", "the texts: txt for a .txt beside each image, one text a line, or `FILE.jsonl` of lines with file_name and text")
	f.StringVar(&o.vocab, "vocab", "", "the vocabulary: `FILE`, or a folder with vocab.json and merges.txt")
	f.StringVar(&o.rule, "rule", rules[0], "the figure's `RULE`: "+strings.Join(rules, ", "))
	f.StringVar(&o.each.path, "each", "", "write the score of every pair to `FILE.jsonl`")
	f.BoolVar(&o.each.overwrite, "overwrite", false, "replace that file if it exists")
	completes(cmd, "rule", rules...)
	return cmd
}

func (o *scoreOptions) check() (fid.CLIPScoreRule, error) {
	rule, err := fid.FindCLIPScoreRule(o.rule)
	if err != nil {
		var names []string
		for _, r := range fid.CLIPScoreRules {
			names = append(names, r.Name)
		}
		return rule, unknown("rule", o.rule, names)
	}
	if o.captions == "" || o.vocab == "" {
		return rule, usagef("want --captions and --vocab: the texts, and the vocabulary that they are read with")
	}
	if o.x.features == "" {
		o.x.features = "clip-vit-b32"
		if rule.Name == "torchmetrics" {
			o.x.features = "clip-vit-l14"
		}
	}
	if names := extract.CLIPNames(); !slices.Contains(names, o.x.features) {
		return rule, unknown("CLIP", o.x.features, names)
	}
	if o.each.path != "" {
		if err := o.each.check(); err != nil {
			return rule, err
		}
	}
	return rule, o.x.check()
}

// scoreResult is the JSON of score.
type scoreResult struct {
	CLIPScore fid.CLIPScoreValue  `json:"clipscore"`
	Images    int                 `json:"images"`
	Cut       int                 `json:"cut"` // texts that were too long
	Extractor fid.ResultExtractor `json:"extractor"`
	Text      string              `json:"text_sha256"`  // of the text tower's weights
	Vocab     string              `json:"vocab_sha256"` // of the vocabulary
	Preset    string              `json:"preset"`
	Precision string              `json:"precision"`
	Device    string              `json:"device"`
	Seconds   fid.Seconds         `json:"seconds"`
	Skipped   []fid.Skipped       `json:"skipped"`
	Notes     []string            `json:"notes"`
	Version   string              `json:"version"`
	Schema    int                 `json:"schema"`
}

// pair is an image and one of its texts.
type pair struct {
	image      int
	name, text string
}

func runScore(ctx context.Context, a *app, o *scoreOptions) error {
	rule, err := o.check()
	if err != nil {
		return err
	}
	in, err := a.openInput(ctx, o.input, &o.x)
	if err != nil {
		return err
	}
	defer in.close()
	if in.src == nil {
		return inputf("%s: holds feature vectors or statistics; want images", o.input)
	}
	if in.src.Len() < 0 {
		return usagef("%s: a stream has no names to find texts by before it is read; unpack it", o.input)
	}
	texts, err := folder.OpenTexts(o.input, o.captions)
	if err != nil {
		return err
	}
	vocab, err := text.OpenBPE(o.vocab)
	if err != nil {
		return &inputError{err}
	}
	e, err := a.openExtractor(ctx, &o.x, "", in.src)
	if err != nil {
		return err
	}
	tower, err := extract.OpenCLIPText(o.x.features, extract.Options{Weights: o.x.weights, Getenv: a.env.Getenv})
	if err != nil {
		return &inputError{err}
	}
	// Texts are read before any image is.
	names, err := namesOf(ctx, in.src, o.x.max)
	if err != nil {
		return err
	}
	of := make(map[string][]string, len(names))
	for _, n := range names {
		if of[n], err = texts.Of(n); err != nil {
			return err
		}
	}
	images, got, err := a.extract(ctx, in.src, e, &o.x)
	if err != nil {
		return err
	}
	a.sayCollected(in.src, &got)
	names = slices.DeleteFunc(names, func(n string) bool {
		return slices.ContainsFunc(got.Summary.Bad, func(b imageio.Bad) bool { return b.Path == n })
	})
	d := e.Info().Dim
	if len(images) != len(names)*d {
		return fmt.Errorf("%s: %d vectors of %d names", o.input, len(images)/d, len(names))
	}
	begin := time.Now()
	r := scoreResult{
		Images: len(names), Extractor: fid.ResultExtractor{Name: e.Info().Name, SHA256: e.Info().SHA256, Dim: d}, Text: tower.Info().SHA256, Vocab: vocab.SHA256,
		Preset: e.Info().Preset, Precision: e.Info().Precision, Device: fid.DeviceOf(e), Seconds: got.Seconds, Skipped: got.Skipped, Notes: []string{}, Version: version, Schema: fid.Schema,
	}
	var pairs []pair
	var ids [][]int32
	for i, n := range names {
		for _, t := range of[n] {
			id, cut, err := vocab.Text(rule.Prefix+t, tower.Context())
			if err != nil {
				return &inputError{fmt.Errorf("%s: %w", n, err)}
			}
			if cut {
				r.Cut++
			}
			if end := slices.Index(id, vocab.End); end >= 0 { // a text may spell the mark out
				id = id[:end+1]
			}
			pairs, ids = append(pairs, pair{i, n, t}), append(ids, id)
		}
	}
	ofText := make([]float32, len(ids)*d)
	if err := tower.Features(ids, ofText); err != nil {
		return &inputError{fmt.Errorf("%w; is %s the vocabulary of this network?", err, o.vocab)}
	}
	ofImage := make([]float32, 0, len(ofText))
	for _, p := range pairs {
		ofImage = append(ofImage, images[p.image*d:][:d]...)
	}
	if r.CLIPScore, err = fid.CLIPScore(ofImage, ofText, d, rule); err != nil {
		return err
	}
	r.Seconds.Metric = time.Since(begin).Seconds()
	for _, note := range []string{e.Info().Note, tower.Info().Note} {
		if note != "" && !slices.Contains(r.Notes, note) {
			r.Notes = append(r.Notes, note)
		}
	}
	if r.Cut > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of %d texts have more than %d tokens and were cut", r.Cut, len(pairs), tower.Context()))
	}
	return a.putScore(o, &r, pairs)
}

func (a *app) putScore(o *scoreOptions, r *scoreResult, pairs []pair) error {
	if o.each.path != "" {
		if err := writeEach(o.each, r.CLIPScore.Each, pairs); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(r)
	}
	a.say("clipscore %s, standard error %s, rule %s: %d images, %d pairs", valueText(r.CLIPScore.Value), valueText(r.CLIPScore.StdErr), r.CLIPScore.Rule, r.Images, len(pairs))
	a.say("extractor: %s %.12s, vocabulary %.12s, preset %s, %s on %s", r.Extractor.Name, r.Extractor.SHA256, r.Vocab, r.Preset, r.Precision, r.Device)
	for _, n := range r.Notes {
		a.say("note: %s", n)
	}
	note := ""
	if len(r.Notes) > 0 && strings.HasPrefix(r.Notes[0], "weights") {
		note = r.Notes[0]
	}
	a.printf("%s%s\n", valueText(r.CLIPScore.Value), inBrackets(note))
	return nil
}

// writeEach writes a line for every pair.
func writeEach(to target, scores []float64, pairs []pair) error {
	return tensor.WriteAtomic(to.path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		for i, p := range pairs {
			line := struct {
				File  string  `json:"file_name"`
				Text  string  `json:"text"`
				Score float64 `json:"score"`
			}{p.name, p.text, scores[i]}
			if err := e.Encode(line); err != nil {
				return err
			}
		}
		return nil
	}, to.options()...)
}

// namesOf are the names of a source's first items, all for 0.
func namesOf(ctx context.Context, src imageio.Source, limit int) ([]string, error) {
	var names []string
	err := src.Each(ctx, func(it imageio.Item) error {
		if limit == 0 || len(names) < limit {
			names = append(names, it.Name)
		}
		return nil
	})
	return names, err
}
