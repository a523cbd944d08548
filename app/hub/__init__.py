"""The Hugging Face hub: finding models there, and downloading them in processes of their own."""
