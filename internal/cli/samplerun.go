package cli

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/fidlab/fidlab/sampler"
)

// sampleRun is run.json: everything that the samples depend on, and no clock.
type sampleRun struct {
	Version     string    `json:"version"`
	Model       string    `json:"model"`
	ModelSHA256 string    `json:"model_sha256"`
	Sidecar     string    `json:"sidecar_sha256,omitempty"` // of the file beside a model
	Inputs      []string  `json:"inputs,omitempty"`         // NAME=FILE, as given
	Sampler     string    `json:"sampler"`
	Grid        string    `json:"grid"`
	Path        string    `json:"path"`
	Steps       int       `json:"steps"`
	Sigmas      []float64 `json:"sigmas"`             // -1 stands for infinity
	NFE         int       `json:"nfe"`                // evaluations of the model per sample, rejected ones included; the most where they vary
	Network     int       `json:"network,omitempty"`  // of the network, where guidance asks it more often
	Rejected    int       `json:"rejected,omitempty"` // of nfe, those of steps that were thrown away
	Guidance    string    `json:"guidance,omitempty"`
	FreeU       string    `json:"freeu,omitempty"`
	TimeShift   string    `json:"time_shift,omitempty"`
	EpsScale    string    `json:"eps_scale,omitempty"`
	Seed        uint64    `json:"seed"`
	First       int       `json:"first"`
	N           int       `json:"n"`
	Classes     []int     `json:"classes"`           // asked for in turn
	Prompts     []string  `json:"prompts,omitempty"` // likewise
	Negative    string    `json:"negative_prompt,omitempty"`
	Kernel      string    `json:"kernel,omitempty"`  // of the noise, where it is not Gaussian
	Disturb     float64   `json:"disturb,omitempty"` // of states before each step, by so much of the noise level
	Init        string    `json:"init,omitempty"`
	InitSHA256  string    `json:"init_sha256,omitempty"`
	Image       string    `json:"image,omitempty"`
	Mask        string    `json:"mask,omitempty"`
	Shape       []int     `json:"shape"`
	Range       []float64 `json:"range"`
	Device      string    `json:"device"`
	Precision   string    `json:"precision"`
	Notes       []string  `json:"notes"`

	Teleport *teleportRun `json:"teleport,omitempty"`
	Turbo    *turboRun    `json:"flowturbo,omitempty"`
	planRun
}

func (r *sampleRun) json() []byte { return runJSON(r) }

// runJSON is the text of a run's record. It panics for numbers that JSON has no form for: records have none.
func runJSON(run any) []byte {
	b, err := json.MarshalIndent(run, "", "  ")
	if err != nil {
		panic(err)
	}
	return append(b, '\n')
}

func (r *sampleRun) count(c sampler.Count) {
	r.NFE, r.Rejected = c.NFE, c.Rejected
	if c.Network != c.NFE {
		r.Network = c.Network
	}
}

// counted says what a sample took.
func counted(run *sampleRun) string {
	text := fmt.Sprintf("%d evaluations of the model each", run.NFE)
	if run.Turbo != nil {
		text += fmt.Sprintf(" and %d of the refiner", run.Turbo.Refinements)
	}
	if run.Network != 0 {
		text += fmt.Sprintf(", %d of the network", run.Network)
	}
	if run.Rejected != 0 {
		text += fmt.Sprintf(", %d of them rejected", run.Rejected)
	}
	return text
}

func finite(sigmas []float64) []float64 {
	for i, s := range sigmas {
		if math.IsInf(s, 1) {
			sigmas[i] = -1
		}
	}
	return sigmas
}
