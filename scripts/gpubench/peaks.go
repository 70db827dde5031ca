package main

import "strings"

// peaks are a device's limits: "memory" in bytes a second, the units in
// operations a second, dense; f64t is float64 on the tensor cores. They are the figures of NVIDIA's data sheets, reached by no real program.
type peaks map[string]float64

const tera = 1e12

var h100 = peaks{"memory": 3.35 * tera, "f32": 67 * tera, "f64": 34 * tera, "f64t": 67 * tera, "f16": 989 * tera, "bf16": 989 * tera}

// devices by a part of the name that the driver gives; the first that fits counts.
var devices = []struct {
	part, what string
	peaks      peaks
}{
	{"H100 PCIe", "H100 PCIe", peaks{"memory": 2.0 * tera, "f32": 51 * tera, "f64": 26 * tera, "f64t": 51 * tera, "f16": 756 * tera, "bf16": 756 * tera}},
	{"H100 NVL", "H100 NVL", peaks{"memory": 3.9 * tera, "f32": 60 * tera, "f64": 30 * tera, "f64t": 60 * tera, "f16": 835 * tera, "bf16": 835 * tera}},
	{"H100", "H100 SXM", h100},
	{"H200", "H200 SXM", peaks{"memory": 4.8 * tera, "f32": 67 * tera, "f64": 34 * tera, "f64t": 67 * tera, "f16": 989 * tera, "bf16": 989 * tera}},
	{"A100-SXM4-40GB", "A100 SXM 40 GB", peaks{"memory": 1.555 * tera, "f32": 19.5 * tera, "f64": 9.7 * tera, "f64t": 19.5 * tera, "f16": 312 * tera, "bf16": 312 * tera}},
	{"A100-PCIE-40GB", "A100 PCIe 40 GB", peaks{"memory": 1.555 * tera, "f32": 19.5 * tera, "f64": 9.7 * tera, "f64t": 19.5 * tera, "f16": 312 * tera, "bf16": 312 * tera}},
	{"A100", "A100 80 GB", peaks{"memory": 2.0 * tera, "f32": 19.5 * tera, "f64": 9.7 * tera, "f64t": 19.5 * tera, "f16": 312 * tera, "bf16": 312 * tera}},
	{"B200", "B200", peaks{"memory": 8.0 * tera, "f32": 75 * tera, "f64": 37 * tera, "f64t": 37 * tera, "f16": 2250 * tera, "bf16": 2250 * tera}},
	{"L40S", "L40S", peaks{"memory": 0.864 * tera, "f32": 91.6 * tera, "f64": 1.4 * tera, "f64t": 1.4 * tera, "f16": 362 * tera, "bf16": 362 * tera}},
	{"RTX 4090", "RTX 4090", peaks{"memory": 1.008 * tera, "f32": 82.6 * tera, "f64": 1.29 * tera, "f64t": 1.29 * tera, "f16": 165 * tera, "bf16": 165 * tera}},
}

// peaksOf finds the figures of a device; what is "" where none are known.
func peaksOf(name string) (what string, p peaks) {
	for _, d := range devices {
		if strings.Contains(name, d.part) {
			return d.what, d.peaks
		}
	}
	return "", nil
}

// roofline is the shortest time in seconds in which a device with these peaks can do that, 0 when they are not known.
func (p peaks) roofline(x Part) float64 {
	if p["memory"] == 0 || p[x.Peak] == 0 {
		return 0
	}
	t := x.Bytes / p["memory"]
	if x.Peak != "memory" {
		t = max(t, x.Flops/p[x.Peak])
	}
	return t
}
