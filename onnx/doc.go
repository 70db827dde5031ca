// Package onnx runs denoising networks stored as ONNX files by Microsoft's
// onnxruntime, which is opened at run time and never linked.
//
// What a file does not say - what its network predicts, on which path, how it is
// told the time, how pictures lie in it - stands in a small JSON file beside it,
// model.json for model.onnx: see [Sidecar]. A [Model]'s Forward is what
// sampler.NetFunc takes:
//
//	m, err := onnx.Open("unet.onnx", onnx.Options{})
//	den := sampler.Adapt(sampler.NetFunc(m.Forward), m.Path(), m.Pred())
//
// Opening a model needs the build tag native and onnxruntime 1.24 or later;
// [Library] says where it is searched. Everything else works in every flavour.
package onnx
