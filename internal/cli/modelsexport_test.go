package cli

import (
	"encoding/csv"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// The command line that an entry names has the settings of the checkpoint, whatever they are: it is parsed by the flags of
// fidlab train and settled as they are.
func TestTrainCommand(t *testing.T) {
	task, _ := systems.FindTask("mnist-unet")
	other := train.Settings{
		Steps: 12345, Batch: 7, Accum: 3, Optimizer: "lion", Rate: 1.25e-4, Schedule: "one-cycle", Warmup: 11, Decay: 0.015, Clip: 0, EMA: []float64{0.9, 0.9995}, Skip: 2,
		Betas: []float64{0.91, 0.985}, Precision: "bf16", Seeds: train.Seeds{Init: 5, Data: 6, Noise: 7, Dropout: 7},
	}
	few := task.Settings.Filled()
	few.Seeds, few.Steps = train.SeedsOf(1<<64-1), 20000
	for _, want := range []train.Settings{other, few, task.Settings.Filled()} {
		line := trainCommand(task, &train.Saved{Settings: want}, "runs/mine")
		args := strings.Fields(line)
		if strings.Join(args[:3], " ") != "fidlab train mnist-unet" {
			t.Fatal(line)
		}
		var o trainOptions
		var got train.Settings
		cmd := newTrain(newApp(System()))
		cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
			get := cmd.Flags()
			o.set.Steps, _ = get.GetInt("steps")
			o.set.Batch, _ = get.GetInt("batch")
			o.set.Accum, _ = get.GetInt("accum")
			o.set.Warmup, _ = get.GetInt("warmup")
			o.set.Skip, _ = get.GetInt("skip")
			o.set.Rate, _ = get.GetFloat64("lr")
			o.set.Decay, _ = get.GetFloat64("decay")
			o.set.Clip, _ = get.GetFloat64("clip")
			o.set.Optimizer, _ = get.GetString("opt")
			o.set.Schedule, _ = get.GetString("schedule")
			o.set.Precision, _ = get.GetString("precision")
			o.set.EMA, _ = get.GetFloat64Slice("ema")
			o.set.Betas, _ = get.GetFloat64Slice("betas")
			o.seed, _ = get.GetUint64("seed")
			o.data, _ = get.GetUint64("data-seed")
			o.noise, _ = get.GetUint64("noise-seed")
			if dir, _ := get.GetString("dir"); dir != "runs/mine" {
				t.Errorf("%s: the folder is %q", line, dir)
			}
			got, err = o.settings(task.Settings, get.Changed)
			return err
		}
		cmd.SetArgs(args[2:])
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngives %+v\nwant  %+v", line, got, want)
		}
	}
}

// A long log keeps its ends, what was evaluated, and at most so many lines besides.
func TestShortLog(t *testing.T) {
	lines := [][]string{{"step", "examples", "loss", "held_out"}}
	for i := 1; i <= 5000; i++ {
		held := ""
		if i%777 == 0 {
			held = "0.123456789"
		}
		lines = append(lines, []string{fmt.Sprint(i), fmt.Sprint(64 * i), fmt.Sprint(1 / float64(i)), held})
	}
	got, err := csv.NewReader(strings.NewReader(shortLog(lines))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, l := range got[1:] {
		if l[3] == "0.123457" {
			held++
		}
	}
	if len(got) > maxLogLines+2+6 || held != 6 || got[len(got)-1][0] != "5000" || got[len(got)-1][1] != "320000" || strings.Join(got[0], ",") != "step,examples,loss,held_out" {
		t.Errorf("%d lines, %d evaluated, first %v, last %v", len(got), held, got[0], got[len(got)-1])
	}
	short := "step,examples,loss\n1,8,0.333333\n2,16,\n"
	if got := shortLog([][]string{{"step", "examples", "loss"}, {"1", "8", "0.33333333333"}, {"2", "16", ""}}); got != short {
		t.Errorf("a short log became %q", got)
	}
}

// What ships is found, is of the index, and can be loaded; every built-in encoder is there.
func TestAssetsLoad(t *testing.T) {
	n := 0
	for _, e := range assets.List() {
		if _, err := checkAsset(e); err != nil {
			t.Error(err)
		}
		n++
	}
	if n == 0 {
		t.Error("nothing ships")
	}
	encoders := 0
	for _, e := range extract.List() {
		if e.Needs != "" || e.Name == "random" {
			continue // of weights that do not ship, or of none that were trained
		}
		sum, err := builtInHash(e.Name)
		if err != nil {
			t.Fatal(err)
		}
		if sum == "" {
			continue // it has no weights
		}
		encoders++
		if entry, ok := assets.Lookup(e.Name); !ok || entry.Kind != assets.Encoder || entry.SHA256 != sum {
			t.Errorf("the encoder %s has SHA-256 %s, the index %+v", e.Name, sum, entry)
		}
	}
	if encoders == 0 {
		t.Error("no encoder has weights")
	}
}
