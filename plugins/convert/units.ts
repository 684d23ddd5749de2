// Units as value * factor + offset of the first unit of their kind. Factors are
// those of NIST SP 811, appendix B: https://www.nist.gov/pml/special-publication-811

/** A unit of measurement. */
export class Unit {
  constructor(readonly kind: string, readonly factor: f64, readonly offset: f64 = 0) {}
}

const units = new Map<string, Unit>();

function add(kind: string, name: string, factor: f64, offset: f64 = 0): void { units.set(name, new Unit(kind, factor, offset)); }

add("temperature", "K", 1);
add("temperature", "degC", 1, 273.15);
add("temperature", "degF", 5.0 / 9.0, 459.67 * 5.0 / 9.0);
add("pressure", "Pa", 1);
add("pressure", "hPa", 100);
add("pressure", "mbar", 100);
add("pressure", "kPa", 1000);
add("pressure", "bar", 100000);
add("pressure", "atm", 101325);
add("pressure", "psi", 6894.757293168361);
add("pressure", "mmHg", 133.322387415);
add("pressure", "inHg", 3386.388640341);
add("length", "m", 1);
add("length", "km", 1000);
add("length", "cm", 0.01);
add("length", "mm", 0.001);
add("length", "in", 0.0254);
add("length", "ft", 0.3048);
add("length", "yd", 0.9144);
add("length", "mi", 1609.344);
add("speed", "m/s", 1);
add("speed", "km/h", 1.0 / 3.6);
add("speed", "mph", 0.44704);
add("speed", "kn", 1852.0 / 3600.0);
add("mass", "kg", 1);
add("mass", "g", 0.001);
add("mass", "t", 1000);
add("mass", "lb", 0.45359237);
add("mass", "oz", 0.028349523125);
add("volume", "m3", 1);
add("volume", "l", 0.001);
add("volume", "ml", 0.000001);
add("volume", "gal", 0.003785411784);
add("energy", "J", 1);
add("energy", "kJ", 1000);
add("energy", "Wh", 3600);
add("energy", "kWh", 3600000);
add("power", "W", 1);
add("power", "kW", 1000);
add("power", "hp", 745.69987158227022);
add("voltage", "V", 1);
add("voltage", "mV", 0.001);
add("voltage", "kV", 1000);
add("current", "A", 1);
add("current", "mA", 0.001);
add("time", "s", 1);
add("time", "ms", 0.001);
add("time", "min", 60);
add("time", "h", 3600);
add("time", "d", 86400);
add("share", "1", 1);
add("share", "%", 0.01);
add("share", "ppm", 0.000001);
add("angle", "rad", 1);
add("angle", "deg", Math.PI / 180);

/** The unit of that name. Null: there is none. */
export function unit(name: string): Unit | null { return units.has(name) ? units.get(name) : null; }

/** Every unit's name, for messages to people. */
export function unitNames(): string { return units.keys().join(", "); }
