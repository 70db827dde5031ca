package systems

// Entry is a paper of the catalog.
type Entry struct {
	Number int
	Name   string // of the system's package and of its commands
	Title  string // of the paper
	Claim  string // what is to be shown of it, in a line
}

// Catalog lists the papers whose systems are here or are to come, by number.
func Catalog() []Entry { return catalog }

func entry(number int) (Entry, bool) {
	if number < 1 || number > len(catalog) {
		return Entry{}, false
	}
	return catalog[number-1], true
}

// The titles are the papers'; the claims are reduced to what can be measured.
var catalog = []Entry{
	{1, "swiftbrush", "SwiftBrush: One-Step Text-to-Image Diffusion Model with Variational Score Distillation", "a one-step generator can be distilled without any image data"},
	{2, "gaussteleport", "The Unreasonable Effectiveness of Gaussian Score Approximation for Diffusion Models and its Applications", "a Gaussian's exact flow replaces the first steps without loss"},
	{3, "symmflow", "Symmetrical Flow Matching: Unified Image Generation, Segmentation, and Classification with Score-Based Generative Models", "one flow generates, segments and classifies"},
	{4, "autodiffusion", "AutoDiffusion: Training-Free Optimization of Time Steps and Architectures for Automated Diffusion Model Acceleration", "searched time steps beat every fixed grid of as few steps"},
	{5, "reimagen", "Re-Imagen: Retrieval-Augmented Text-to-Image Generator", "retrieved neighbours help with rare entities"},
	{6, "shiftsteps", "Alleviating Exposure Bias in Diffusion Models through Sampling with Shifted Time Steps", "the time that fits a sample's own variance serves better than the grid's"},
	{7, "textok", "Language-Guided Image Tokenization for Generation", "captions make fewer tokens suffice"},
	{8, "tokenflow", "TokenFlow: Unified Image Tokenizer for Multimodal Understanding and Generation", "one set of indices serves meaning and pixels"},
	{9, "controlcity", "ControlCity: A Multimodal Diffusion Model Based Approach for Accurate Geospatial Data Generation and Urban Morphology Analysis", "text, roads, land use and position together draw truer buildings"},
	{10, "dualdiff", "DualDiff+: Dual-Branch Diffusion for High-Fidelity Video Generation with Reward Guidance", "two branches with occlusion-aware rays draw truer street scenes"},
	{11, "pqdiff", "Continuous-Multiple Image Outpainting in One-Step via Positional Query and A Diffusion-based Approach", "positional queries paint any region around a picture in one step"},
	{12, "ict", "Improved Techniques for Training Consistency Models", "consistency training from data alone beats its first form at one and two steps"},
	{13, "mogo", "Mogo: RQ Hierarchical Causal Transformer for High-Quality 3D Human Motion Generation", "one causal model over residual codes streams motion beyond its training length"},
	{14, "vavae", "Reconstruction vs. Generation: Taming the Optimization Dilemma in Latent Diffusion Models", "a latent space aligned with a vision model trains its generator faster"},
	{15, "lion", "Symbolic Discovery of Optimization Algorithms", "a searched update by signs does with half of Adam's memory"},
	{16, "maskunet", "Not All Parameters Matter: Masking Diffusion Models for Enhancing Generation Ability", "masking weights of a frozen network improves its samples"},
	{17, "quickfix", "Localizing and Editing Knowledge in Text-to-Image Generative Models", "one layer of the text encoder holds what can be edited in closed form"},
	{18, "gpstoken", "GPSToken: Gaussian Parameterized Spatially-adaptive Tokenization for Image Representation and Generation", "tokens that are Gaussians of free place and size keep more with as many"},
	{19, "arflow", "ARFlow: Autoregressive Flow with Hybrid Linear Attention", "a flow that sees the sequence of noisier states trains better"},
	{20, "msd", "Multi-student Diffusion Distillation for Better One-step Generators", "several one-step students beat one, at the same cost of a sample"},
	{21, "compose", "Understanding and Mitigating Compositional Issues in Text-to-Image Generative Models", "a linear map of the text embedding mends binding of attributes"},
	{22, "tinyfusion", "TinyFusion: Diffusion Transformers Learned Shallow", "learned depth pruning is best after fine-tuning"},
	{23, "conpreddiff", "Improving Diffusion-Based Image Synthesis with Context Prediction", "predicting the neighbourhood in training improves samples at no cost of sampling"},
	{24, "raphael", "RAPHAEL: Text-to-Image Generation via Large Mixture of Diffusion Paths", "experts of space and time specialise and help"},
	{25, "parti", "Scaling Autoregressive Models for Content-Rich Text-to-Image Generation", "quality of an encoder and decoder over image tokens rises with its size"},
	{26, "realrag", "RealRAG: Retrieval-augmented Realistic Image Generation via Self-reflective Contrastive Learning", "retrieving what the generator lacks helps it more than what is near"},
	{27, "gmem", "Generative Modeling with Explicit Memory", "an external memory shortens training"},
	{28, "ardvae", "ARD-VAE: A Statistical Formulation to Find the Relevant Latent Dimensions of Variational Autoencoders", "a learned prior finds how many latent dimensions data need"},
	{29, "flexdit", "FlexDiT: Dynamic Token Density Control for Diffusion Transformer", "fewer tokens in some layers and steps save half of the work"},
	{30, "dimr", "Alleviating Distortion in Image Generation via Multi-Resolution Diffusion Models", "a cascade of resolutions with time-dependent norms distorts less"},
	{31, "dmd2", "Improved Distribution Matching Distillation for Fast Image Synthesis", "distribution matching with a GAN term needs no pairs and beats its teacher"},
	{32, "zestguide", "Zero-shot spatial layout conditioning for text-to-image diffusion models", "attention maps guide a layout without training"},
	{33, "ddo", "Direct Discriminative Optimization: Your Likelihood-Based Visual Generative Model is Secretly a GAN Discriminator", "fine-tuning by the likelihood ratio of a model to itself improves it"},
	{34, "bipo", "BiPO: Bidirectional Partial Occlusion Network for Text-to-Motion Synthesis", "parts that see each other both ways, partly occluded, move better"},
	{35, "fivestep", "Hyperparameters are all you need: Using five-step inference for an original diffusion model to generate images comparable to the latest distillation model", "a grid of two levels makes five to eight steps enough"},
	{36, "latentedit", "Enhancing Conditional Image Generation with Explainable Latent Space Manipulation", "maps of importance keep an edit to its place"},
	{37, "mmdm", "Text-driven Human Motion Generation with Motion Masked Diffusion Model", "masking frames and parts in training improves motion"},
	{38, "flowturbo", "FlowTurbo: Towards Real-time Flow-Based Image Generation with Velocity Refiner", "a small refiner of the velocity replaces most evaluations"},
	{39, "mmm", "MMM: Generative Masked Motion Model", "masked motion tokens are as good as diffusion, and far faster"},
	{40, "pfgmpp", "PFGM++: Unlocking the Potential of Physics-Inspired Generative Models", "a finite number of added dimensions beats diffusion and errs more gently"},
	{41, "spatext", "SpaText: Spatio-Textual Representation for Controllable Image Generation", "free text for regions controls where things are"},
	{42, "gsjacobi", "Accelerate TarFlow Sampling with GS-Jacobi Iteration", "Jacobi iterations sample a flow several times faster, exactly"},
}
