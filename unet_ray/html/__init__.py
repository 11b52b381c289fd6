"""Self-contained HTML pages: the frame and the style that all share, and pictures as data URIs."""
