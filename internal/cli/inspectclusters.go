package cli

import (
	"context"
	"fmt"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/report"
)

// inspectedCluster is what was found of a cluster. Effects are nil where too few images remain without it.
type inspectedCluster struct {
	State     string   `json:"state"`
	Ref       int      `json:"ref"`
	Gen       int      `json:"gen"`
	RefShare  float64  `json:"ref_share"`
	GenShare  float64  `json:"gen_share"`
	Effect    *float64 `json:"effect"`
	EffectRef *float64 `json:"effect_of_reference"`
	RefImages []string `json:"ref_images"` // the nearest to its middle
	GenImages []string `json:"gen_images"`

	cluster *fid.Cluster
}

// clusterImages are how many of each side show a cluster.
const clusterImages = 6

// cluster parts both sets into clusters, where there are enough images for it.
func (f *inspection) cluster(ctx context.Context, o *inspectOptions) error {
	if o.clusters == 0 || f.ref.stats.N+f.gen.stats.N < 4*o.clusters || f.ref.stats.N < 3 {
		return nil
	}
	found, err := fid.Clusters(ctx, f.ref.stats, f.gen.stats, o.clusters, o.seed)
	if err != nil {
		return err
	}
	for i := range found {
		c := &found[i]
		k := inspectedCluster{
			State: c.State, Ref: len(c.Ref), Gen: len(c.Gen), RefShare: c.RefShare, GenShare: c.GenShare,
			Effect: orNil(c.Effect), EffectRef: orNil(c.EffectOfRefs), cluster: c, RefImages: []string{}, GenImages: []string{},
		}
		for _, row := range c.Ref[:min(clusterImages, len(c.Ref))] {
			k.RefImages = append(k.RefImages, f.ref.name(row))
		}
		for _, row := range c.Gen[:min(clusterImages, len(c.Gen))] {
			k.GenImages = append(k.GenImages, f.gen.name(row))
		}
		f.Clusters = append(f.Clusters, k)
	}
	return nil
}

func (f *inspection) clusterTable() report.Table {
	t := report.Table{
		Caption: "Clusters of both sets, the worst first; effects are what FID would lose without the cluster's generated, or reference images",
		Columns: report.Columns("#>", "generated are", "reference>", "%>", "generated>", "%>", "effect>", "of reference>", "typical image"),
	}
	text := func(v *float64) string {
		if v == nil {
			return ""
		}
		return valueText(*v)
	}
	for i, c := range f.Clusters {
		typical := ""
		if len(c.GenImages) > 0 {
			typical = c.GenImages[0]
		}
		if len(c.RefImages) > 0 && c.Ref >= c.Gen || typical == "" {
			typical = c.RefImages[0]
		}
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(i + 1), c.State, fmt.Sprint(c.Ref), fmt.Sprintf("%.1f", 100*c.RefShare), fmt.Sprint(c.Gen), fmt.Sprintf("%.1f", 100*c.GenShare),
			text(c.Effect), text(c.EffectRef), typical,
		})
	}
	return t
}
