"""Hugging Face: folders that ``save_pretrained`` of transformers or sentence-transformers wrote become ONNX graphs."""
