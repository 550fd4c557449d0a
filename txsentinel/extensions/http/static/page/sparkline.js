/* A small curve of the latest lags, without axes: the number stands beside it. */
import { svg } from "./elements.js";

const WIDTH = 60, HEIGHT = 16;

/* Nothing while all values are alike: most groups have no lag. */
export function sparkline(values) {
	const known = values.filter((value) => value !== null), most = Math.max(...known), least = Math.min(...known);
	if (known.length < 2 || most === least) return null;
	const step = WIDTH / Math.max(values.length - 1, 1), y = (value) => HEIGHT - 2 - ((HEIGHT - 4) * (value - least)) / (most - least);
	let path = "", gap = true;
	values.forEach((value, i) => {
		if (value !== null) path += `${gap ? "M" : "L"}${(i * step).toFixed(1)} ${y(value).toFixed(1)}`;
		gap = value === null;
	});
	return svg("svg.spark", { width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" }, svg("path", { d: path }));
}
