package fid

import "slices"

// Tool is the recipe of a published tool: what it does with pictures for the Inception network, and the constants of its metrics.
type Tool struct {
	Name      string
	Inception string  // the preset of package extract
	Options   Options // NearestK, Boundary, Splits, SplitSize, InOrder, Population; zeros are ours
	About     string  // what is not the same to the last digit, or of another network
}

// Tools in the order of their age.
var Tools = []Tool{
	{Name: "pytorch-fid", Inception: "pytorch-fid"},
	{Name: "stylegan", Inception: "tf", Options: Options{InOrder: true, Population: true},
		About: "covariances with ddof 0; its precision and recall are of VGG16 (pr with --features vgg16, of other weights than NVIDIA's), its subsets of kid are drawn without a seed"},
	{Name: "adm", Inception: "tf", Options: Options{InOrder: true, SplitSize: 5000},
		About: "parts of 5000 for is; its distances of pr are in float16, which moves them by about 0.003"},
	{Name: "clean-fid", Inception: "clean", About: "its subsets of kid are drawn without a seed"},
	{Name: "torchmetrics", Inception: "torchmetrics", About: "its parts of is and subsets of kid are drawn without a seed; versions before 1.8 resize as torch-fidelity"},
	{Name: "edm", Inception: "tf", About: "its tables give the least of three sets of 50,000"},
	{Name: "edm2", Inception: "tf"},
	{Name: "dgm-eval", Inception: "pytorch-fid", Options: Options{NearestK: 5, Boundary: "strict"},
		About: "its own networks are DINOv2 and others: --features dinov2-vitl14"},
	{Name: "pyiqa", Inception: "pyiqa", Options: Options{InOrder: true},
		About: "its sfid is of the block Mixed_6a; its is resizes as --preset stylegan; its subsets of kid are drawn without a seed"},
	{Name: "torch-fidelity", Inception: "tf", About: "its precision and recall are of VGG16: pr with --features vgg16"},
}

// FindTool is the tool of that name.
func FindTool(name string) (Tool, bool) {
	i := slices.IndexFunc(Tools, func(t Tool) bool { return t.Name == name })
	if i < 0 {
		return Tool{}, false
	}
	return Tools[i], true
}
