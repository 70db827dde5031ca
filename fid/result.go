package fid

// Schema is the version of Result's JSON.
const Schema = 1

// Result is what one comparison gives. Its JSON is stable: fields are added,
// never renamed.
type Result struct {
	Metrics   map[string]Value `json:"metrics"`
	N         Counts           `json:"n"`
	Preset    string           `json:"preset"`
	Extractor ResultExtractor  `json:"extractor"`
	Device    string           `json:"device"`
	Precision string           `json:"precision"`
	Seconds   Seconds          `json:"seconds"`
	Skipped   []Skipped        `json:"skipped"`
	Notes     []string         `json:"notes"`
	Version   string           `json:"version"`
	Schema    int              `json:"schema"`
}

// Counts are the vectors on each side; 0 where a statistics file does not tell.
type Counts struct {
	Ref int `json:"ref"`
	Gen int `json:"gen"`
}

// ResultExtractor names what made the features; empty where nothing tells.
type ResultExtractor struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Dim    int    `json:"dim"`
}

// Seconds of wall clock by stage. Reading overlaps with the features; it counts
// only what they had to wait for.
type Seconds struct {
	Read     float64 `json:"read"`
	Features float64 `json:"features"`
	Metric   float64 `json:"metric"`
}

// Skipped is a picture that was left out, and why.
type Skipped struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Value is the outcome of one metric; Number is its figure.
type Value interface{ Number() float64 }

// Figure is one of several numbers of a metric.
type Figure struct {
	Name  string
	Value float64
}

// FIDValue is the outcome of "fid".
type FIDValue struct {
	Value    float64     `json:"value"`
	MeanTerm float64     `json:"mean_term"`
	CovTerm  float64     `json:"cov_term"`
	CI       *[2]float64 `json:"ci"` // null without features on both sides, or when not asked for
	CILevel  float64     `json:"ci_level"`
}

// Number is the distance.
func (v FIDValue) Number() float64 { return v.Value }

// KIDValue is the outcome of "kid".
type KIDValue struct {
	Value float64 `json:"value"`
	Std   float64 `json:"std"` // over the subsets, population
}

// Number is the mean over the subsets.
func (v KIDValue) Number() float64 { return v.Value }
