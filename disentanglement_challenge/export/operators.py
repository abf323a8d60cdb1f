"""The operators that an untrusted model may call: only arithmetic on tensors, numbers, strings and lists.

It is a list of allowed operators, as new operators of a later PyTorch may do anything. It was made from those of
PyTorch 2.13. Left out are operators that read or write files or standard output (`save`, `from_file`, `print`), set a
state of the process (`manual_seed`, `set_grad_enabled`, a cache's size), share or resize storage (`set_`, `resize_`),
compute gradients, or do not check their arguments (internal parts of other operators, other libraries' layouts, and
those of which PyTorch's issues say so). Others may have such faults, too; only a sandbox keeps them from this process.
"""

# Tensors: each operator may also be called in place, with an underscore at the end of its name.
_TENSORS = """
    abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv addr adjoint
    affine_grid_generator alias alias_copy all allclose alpha_dropout amax amin aminmax angle any arange arccos
    arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere as_strided
    as_tensor asin asinh atan atan2 atanh atleast_1d atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d
    baddbmm bartlett_window batch_norm bernoulli bilinear binary_cross_entropy binary_cross_entropy_with_logits
    bincount binomial bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor
    blackman_window block_diag bmm broadcast_shapes broadcast_tensors broadcast_to bucketize cartesian_prod cat
    cauchy cdist ceil celu chain_matmul chalf channel_shuffle cholesky cholesky_inverse cholesky_solve chunk
    clamp clamp_max clamp_min clip clone col2im column_stack combinations complex concat concatenate conj
    conj_physical constant_pad_nd contiguous conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
    conv_transpose3d convolution copy copysign corrcoef cos cosh cosine_embedding_loss cosine_similarity
    count_nonzero cov cpu cross cross_entropy_loss cuda cummax cummin cumprod cumsum
    cumulative_trapezoid deg2rad det detach device diag diag_embed diagflat diagonal diagonal_scatter diff
    digamma dim dist div divide dot dropout dsplit dstack einsum element_size elu embedding empty
    empty_like empty_permuted empty_strided eq equal erf erfc erfinv exp exp2 expand expand_as expm1 exponential
    eye feature_alpha_dropout feature_dropout fill fill_diagonal_ fix flatten flip fliplr flipud float_power
    floor floor_divide fmax fmin fmod frac fractional_max_pool2d fractional_max_pool3d frexp frobenius_norm full
    full_like gather gcd ge gelu geometric ger get get_device glu gradient greater greater_equal grid_sampler
    grid_sampler_2d grid_sampler_3d group_norm gru gru_cell gt hamming_window hann_window hardshrink hardsigmoid
    hardswish hardtanh heaviside hinge_embedding_loss histc histogram histogramdd hsplit hstack huber_loss hypot
    i0 igamma igammac im2col imag index index_add index_copy index_fill index_put index_reduce index_select
    inner instance_norm inverse is_autocast_cpu_enabled is_autocast_enabled is_complex is_conj is_contiguous
    is_floating_point is_grad_enabled is_leaf is_neg is_nonzero is_same_size is_scripting is_signed isclose
    isfinite isin isinf isnan isneginf isposinf isreal istft item kaiser_window kl_div kron kthvalue l1_loss
    layer_norm lcm ldexp le leaky_relu lerp less less_equal lgamma lift_fresh lift_fresh_copy linear linspace
    log log10 log1p log2 log_normal log_sigmoid log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and
    logical_not logical_or logical_xor logit logspace logsumexp lstm lstm_cell lt lu_solve mH mT
    margin_ranking_loss masked_fill masked_scatter masked_select matmul matrix_H matrix_exp matrix_power max
    max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
    max_unpool2d max_unpool3d maximum mean median meshgrid min minimum mish mm mode moveaxis movedim mse_loss
    msort mul multi_margin_loss multilabel_margin_loss multinomial multiply mv mvlgamma nan_to_num nanmean
    nanmedian nanquantile nansum narrow native_dropout native_group_norm native_layer_norm native_norm ne neg
    negative nested_to_padded_tensor new_empty new_empty_strided new_full new_ones new_zeros nextafter nll_loss
    nll_loss2d nll_loss_nd nonzero nonzero_numpy nonzero_static norm norm_except_dim normal normal_functional
    not_equal nuclear_norm numel numpy_T one_hot ones ones_like outer pad pad_sequence pairwise_distance pdist
    permute pinverse pixel_shuffle pixel_unshuffle poisson poisson_nll_loss polar polygamma positive pow prelu
    prod put qr quantile rad2deg rand rand_like randint randint_like randn randn_like random randperm range
    ravel real reciprocal reflection_pad1d reflection_pad2d reflection_pad3d relu relu6 remainder renorm repeat
    repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape reshape_as resolve_conj
    resolve_neg result_type rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round row_stack
    rrelu rsqrt rsub scalar_tensor scaled_dot_product_attention scatter scatter_add scatter_reduce searchsorted
    select select_scatter selu sgn sigmoid sign signbit silu sin sinc sinh size slice slice_scatter slogdet
    smooth_l1_loss soft_margin_loss softmax softplus softshrink sort split split_with_sizes sqrt square squeeze
    stack std std_mean stft storage_offset stride sub subtract sum sum_to_size svd swapaxes swapdims t take
    take_along_dim tan tanh tensor tensor_split tensordot thnn_conv2d threshold tile to to_padded_tensor topk
    trace transpose trapezoid trapz triangular_solve tril tril_indices triplet_margin_loss triu triu_indices
    true_divide trunc type_as unbind unflatten unfold uniform unique_consecutive unique_dim
    unique_dim_consecutive unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d vander var var_mean vdot view view_as view_as_complex view_as_real vsplit vstack warn
    where xlogy zero zeros zeros_like
    fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn
    fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2
    fft_rfftfreq fft_rfftn
    linalg_cholesky linalg_cholesky_ex linalg_cond linalg_cross linalg_det linalg_diagonal linalg_eig
    linalg_eigh linalg_eigvals linalg_eigvalsh linalg_householder_product linalg_inv linalg_inv_ex
    linalg_lstsq linalg_lu linalg_lu_factor
    linalg_lu_factor_ex linalg_lu_solve linalg_matmul linalg_matrix_exp linalg_matrix_norm linalg_matrix_power
    linalg_matrix_rank linalg_multi_dot linalg_norm linalg_pinv linalg_qr linalg_slogdet linalg_solve
    linalg_solve_ex linalg_solve_triangular linalg_svd linalg_svdvals linalg_tensorinv linalg_tensorsolve
    linalg_vander linalg_vecdot linalg_vector_norm
    special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0 special_bessel_y1
    special_chebyshev_polynomial_t special_chebyshev_polynomial_u special_chebyshev_polynomial_v
    special_chebyshev_polynomial_w special_digamma special_entr special_erf special_erfc special_erfcx
    special_erfinv special_exp2 special_expit special_expm1 special_gammainc special_gammaincc special_gammaln
    special_hermite_polynomial_h special_hermite_polynomial_he special_i0 special_i0e special_i1 special_i1e
    special_laguerre_polynomial_l special_legendre_polynomial_p special_log1p special_log_ndtr
    special_log_softmax special_logit special_logsumexp special_modified_bessel_i0 special_modified_bessel_i1
    special_modified_bessel_k0 special_modified_bessel_k1 special_multigammaln special_ndtr special_ndtri
    special_polygamma special_psi special_round special_scaled_modified_bessel_k0
    special_scaled_modified_bessel_k1 special_shifted_chebyshev_polynomial_t
    special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_v
    special_shifted_chebyshev_polynomial_w special_sinc special_softmax special_spherical_bessel_j0
    special_xlog1py special_xlogy special_zeta
"""

# Operators that exporters write instead: those of older versions, and those behind traced or scripted torch.nn calls.
_WRITTEN_BY_EXPORTERS = """
    __and__ __contains__ __derive_index __getitem__ __iand__ __ilshift__ __interpolate __ior__ __irshift__
    __is__ __isnot__ __ixor__ __lshift__ __not__ __or__ __range_length __round_to_zero_floordiv __rshift__
    __upsample __upsample_bilinear __upsample_nearest __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d
    _batch_norm_impl_index _cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long
    _cast_Short _conj_physical _convolution _convolution_mode _dim_arange _fft_c2c _fft_c2r _fft_r2c
    _fused_rms_norm _get_tracing_state _infer_size _list_to_tensor _local_scalar_dense _log_softmax
    _native_batch_norm_legit _native_batch_norm_legit_no_training _native_multi_head_attention _ncf_unsqueeze
    _ncf_view _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned _pack_padded_sequence _pad_circular
    _pad_enum _pad_packed_sequence _prelu_kernel _reshape_from_tensor _safe_softmax
    _scaled_dot_product_attention_math _scaled_dot_product_flash_attention_for_cpu _set_item _shape_as_tensor
    _softmax _tensor_to_list _transformer_encoder_layer_fwd _trilinear _unique _unique2 _unsafe_view
    _unwrap_optional _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm
"""

_NUMBERS = """
    Bool Complex ComplexImplicit Float FloatImplicit Int IntImplicit ScalarImplicit Size degrees divmod fabs
    factorial floordiv gamma mathremainder modf radians
"""

_TEXTS = """
    capitalize center chr count endswith expandtabs find format isalnum isalpha isdecimal isdigit isidentifier
    islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip ord partition percentFormat
    replace rfind rindex rjust rpartition rsplit rstrip splitlines startswith str strip swapcase title upper
    zfill bin hex oct
"""

_LISTS_AND_DICTIONARIES = """
    append clear extend insert items keys pop popitem remove reverse setdefault sorted update list dict len
    Delete
"""

# TorchScript's own: the elements of programs, properties of tensors, conversions.
_LANGUAGE = """
    CallFunction CallMethod Constant CreateObject DictConstruct Enter EnumName EnumValue Exit GetAttr If ListConstruct
    ListUnpack Loop NumToTensor RaiseException SetAttr TupleConstruct TupleIndex TupleSlice TupleUnpack Uninitialized
    abs data device dtype index is_cpu is_cuda is_ipu is_maia is_meta is_mkldnn is_mps is_mtia is_nested is_quantized
    is_sparse is_sparse_csr is_vulkan is_xla is_xpu isinstance itemsize layout max min name nbytes rangelist
    requires_grad tolist type unchecked_cast unchecked_unwrap_optional
"""

_ATEN = frozenset(" ".join((_TENSORS, _WRITTEN_BY_EXPORTERS, _NUMBERS, _TEXTS, _LISTS_AND_DICTIONARIES)).split())
_PRIM = frozenset(_LANGUAGE.split())


def is_allowed(operator: str) -> bool:
    """Return whether a model may call the operator, by PyTorch's name such as "aten::conv2d" or "prim::dtype"."""
    namespace, _, name = operator.partition("::")
    if namespace == "aten":
        return name in _ATEN or (name.endswith("_") and not name.endswith("__") and name[:-1] in _ATEN)
    return namespace == "prim" and name in _PRIM
