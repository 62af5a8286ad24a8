"""What every figure shares: data, theme, axes, and the composition of panels into SVG."""
