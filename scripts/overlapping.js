// Texts that a person sees on top of each other: pairs of their beginnings. Clipped parts do not count.
() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || !parent || ["SCRIPT", "STYLE", "OPTION"].includes(parent.tagName)) continue;
    const style = getComputedStyle(parent);
    if (style.visibility !== "visible" || Number(style.opacity) === 0 || Number(style.fillOpacity) === 0) continue;
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      let { left, top, right, bottom } = rect;
      for (let up = parent; up && up !== document.body; up = up.parentElement) {
        const clip = getComputedStyle(up);
        if (clip.overflow === "visible" || up instanceof SVGElement) continue;
        const edge = up.getBoundingClientRect();
        left = Math.max(left, edge.left); top = Math.max(top, edge.top);
        right = Math.min(right, edge.right); bottom = Math.min(bottom, edge.bottom);
      }
      // A line box is higher than its letters.
      const air = (bottom - top) * 0.18;
      if (right - left > 3 && bottom - top > 5) boxes.push({ left, right, top: top + air, bottom: bottom - air, node });
    }
  }
  boxes.sort((a, b) => a.top - b.top);
  const found = [];
  for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length && boxes[j].top < boxes[i].bottom; j++) {
      const a = boxes[i], b = boxes[j];
      if (a.node === b.node) continue;
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - b.top;
      if (wide > 1.5 && high > 1.5) found.push([a.node.textContent.trim().slice(0, 40), b.node.textContent.trim().slice(0, 40)]);
    }
  return found;
}
