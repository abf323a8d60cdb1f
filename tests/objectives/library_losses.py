"""Runs disentanglement_lib's own losses on given codes and images: python library_losses.py IN.npz OUT.npz

Its modules need TensorFlow 1 to import. Modules that they import and these functions never call are replaced by empty
ones. It runs in a process of its own because it registers the same gin names as this project.
"""

import sys
import types

import gin
import numpy as np
import tensorflow

sys.modules["gin.tf"] = gin  # its own does not import under this TensorFlow
contrib = types.ModuleType("tensorflow.contrib")
contrib.tpu = types.ModuleType("tensorflow.contrib.tpu")
for module in (contrib, contrib.tpu, types.ModuleType("tensorflow_probability"), types.ModuleType("tensorflow_hub")):
    sys.modules[module.__name__] = module

from disentanglement_lib.methods.shared import architectures, losses  # noqa: E402
from disentanglement_lib.methods.unsupervised import vae  # noqa: E402

tf = tensorflow.compat.v1


def discriminator(z, is_training):
    logits = z * 2 - 1
    return logits, tf.nn.softmax(logits)


def main():
    given = np.load(sys.argv[1])
    with tf.Graph().as_default(), tf.Session() as session:
        z_mean, z_logvar, z_sampled, true_images, outputs = (
            tf.constant(given[name], tf.float32)
            for name in ("z_mean", "z_logvar", "z_sampled", "true_images", "outputs")
        )
        kl = vae.compute_gaussian_kl(z_mean, z_logvar)
        set_step = tf.train.create_global_step().assign(int(given["step"]))
        objectives = {
            "vae": vae.BetaVAE(beta=4.0),
            "annealed_vae": vae.AnnealedVAE(gamma=7.0, c_max=5.0, iteration_threshold=100),
            "dip_vae_i": vae.DIPVAE(lambda_od=5.0, lambda_d_factor=10.0, dip_type="i"),
            "dip_vae_ii": vae.DIPVAE(lambda_od=5.0, lambda_d_factor=1.0, dip_type="ii"),
            "beta_tc_vae": vae.BetaTCVAE(beta=6.0),
        }
        results = {}
        for name, objective in objectives.items():
            value = objective.regularizer(kl, z_mean, z_logvar, z_sampled)
            gradients = tf.gradients(value, [z_mean, z_logvar, z_sampled], unconnected_gradients="zero")
            results |= dict(zip([f"{name}/{part}" for part in range(4)], [value, *gradients], strict=True))
        for loss_fn in (losses.bernoulli_loss, losses.l2_loss):
            for activation in ("logits", "tanh"):
                value = losses.make_reconstruction_loss(true_images, outputs, loss_fn, activation)
                name = f"{loss_fn.__name__}/{activation}"
                results |= {f"{name}/0": value, f"{name}/1": tf.gradients(value, outputs)[0]}
        _, results["clipped"] = architectures.make_discriminator(z_sampled[:, :2] * 20, False, discriminator)
        session.run(set_step)
        np.savez(sys.argv[2], **session.run(results))


main()
