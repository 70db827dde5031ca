#!/usr/bin/env python3
"""Writes the golden data of the ONNX tests: two small diffusers U-Nets with seeded random weights as .onnx,
and the states of the usual pipeline loop over them in float32, 10 steps.

  pip install torch==2.15.0 diffusers==0.42.1 onnx==1.23.2
  python scripts/peers/onnx_unets.py testdata/golden/onnx

unet.onnx      UNet2DModel: sample [B,3,8,8], timestep [B] float32; predicts eps
text.onnx      UNet2DConditionModel: sample [B,4,8,8], timestep scalar int64, encoder_hidden_states [B,5,12]; predicts v
gauss.onnx     the perfect eps of N(0, 0.5²) in every value on linear betas: sample [B,1,4,4], timestep [B] int64
runs.npz       noise and text that go in; <model>_<sampler>: the states, [11, 2, C, 8, 8], unscaled by the model
               (text.onnx with classifier-free guidance of 3 against the empty text, images and empty texts in one batch)
"""
import pathlib
import sys

import diffusers
import numpy as np
import onnx
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel, UNet2DModel

STEPS, IMAGES, GUIDANCE = 10, 2, 3.0


class Unet(torch.nn.Module):
    """The network as a function of tensors with a tensor for its result."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, sample, timestep, *text):
        return self.net(sample, timestep, *text, return_dict=False)[0]


def networks():
    torch.manual_seed(1)
    plain = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8)
    text = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12, attention_head_dim=2)
    return plain.eval(), text.eval()


def export(net, path, args, names, batched):
    torch.onnx.export(
        Unet(net), args, str(path), input_names=names, output_names=["out_sample"], opset_version=17, dynamo=False,
        dynamic_axes={n: {0: "batch"} for n in batched + ["out_sample"]})
    onnx.checker.check_model(onnx.load(str(path)))


def gauss(path):
    """eps = b/(a²·0.25 + b²)·x, by a table of the factor."""
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    table = (np.sqrt(1 - abar) / (abar * 0.25 + 1 - abar)).astype(np.float32).reshape(1000, 1, 1, 1)
    info, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [node("Gather", ["table", "timestep"], ["factor"]), node("Mul", ["sample", "factor"], ["eps"])], "gauss",
        [info("sample", onnx.TensorProto.FLOAT, ["batch", 1, 4, 4]), info("timestep", onnx.TensorProto.INT64, ["batch"])],
        [info("eps", onnx.TensorProto.FLOAT, ["batch", 1, 4, 4])], [onnx.numpy_helper.from_array(table, "table")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@torch.no_grad()
def loop(scheduler, noise, predict):
    scheduler.set_timesteps(STEPS)
    x = noise * scheduler.init_noise_sigma
    states = [x.numpy().copy()]
    for t in scheduler.timesteps:
        out = predict(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(out, t, x, return_dict=False)[0]
        states.append(x.numpy().copy())
    return np.stack(states)


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    plain, text = networks()
    export(plain, out / "unet.onnx", (torch.zeros(2, 3, 8, 8), torch.zeros(2)), ["sample", "timestep"], ["sample", "timestep"])
    export(text, out / "text.onnx", (torch.zeros(2, 4, 8, 8), torch.tensor(1), torch.zeros(2, 5, 12)),
           ["sample", "timestep", "encoder_hidden_states"], ["sample", "encoder_hidden_states"])

    gauss(out / "gauss.onnx")

    gen = torch.Generator().manual_seed(2)
    noise3 = torch.randn(IMAGES, 3, 8, 8, generator=gen)
    noise4 = torch.randn(IMAGES, 4, 8, 8, generator=gen)
    words = torch.randn(IMAGES, 5, 12, generator=gen)
    empty = torch.randn(1, 5, 12, generator=gen).expand(IMAGES, -1, -1)

    def guided(x, t):
        none, some = text(torch.cat([x, x]), t, torch.cat([empty, words]), return_dict=False)[0].chunk(2)
        return none + GUIDANCE * (some - none)

    arrays = {"noise3": noise3.numpy(), "noise4": noise4.numpy(), "text": words.numpy(), "empty": empty.numpy()}
    linear = dict(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    latent = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    for name, noise, betas, pred, predict in (
            ("unet", noise3, linear, "epsilon", lambda x, t: plain(x, t, return_dict=False)[0]),
            ("text", noise4, latent, "v_prediction", guided)):
        arrays[name + "_ddim"] = loop(DDIMScheduler(
            **betas, prediction_type=pred, clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True), noise, predict)
        arrays[name + "_dpmpp2m"] = loop(DPMSolverMultistepScheduler(
            **betas, prediction_type=pred, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="linspace"), noise, predict)
    np.savez(out / "runs.npz", **{k: np.ascontiguousarray(v, dtype=np.float32) for k, v in arrays.items()})
    for k, v in arrays.items():
        print(k, v.shape, float(np.abs(v).max()))
    print("torch", torch.__version__, "diffusers", diffusers.__version__, "onnx", onnx.__version__)


if __name__ == "__main__":
    main()
