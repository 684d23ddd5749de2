// edged plugin SDK for AssemblyScript. See README.md; sdk/abi.md is the
// contract beneath it. What needs a grant stands apart: ./log and ./state.

export { Draft, Output, Record, callTime, edged_abi_v1, edged_alloc, text, transform } from "./abi";
export { Builder } from "./builder";
export { Bytes } from "./bytes";
export { Config } from "./config";
export { addDelta, compareNumbers } from "./decimal";
export { Kind, Lookup, Path, asBool, del, eachName, get, kind, set } from "./json";
export { Fields, Members } from "./members";
export { Merge, Rule, parseRule, ruleNames, same } from "./merge";
export { asF64, fixed, integer } from "./number";
export { Conflict, Verdict, Version, resolve } from "./resolve";
export { asString, quote } from "./strings";
