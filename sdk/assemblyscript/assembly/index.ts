// edged plugin SDK for AssemblyScript. See README.md; sdk/abi.md is the
// contract beneath it. Logging is apart, in ./log, because it needs a grant.

export { Draft, Output, Record, callTime, edged_abi_v1, edged_alloc, text, transform } from "./abi";
export { Bytes } from "./bytes";
export { Config } from "./config";
export { Kind, Lookup, Path, asBool, asString, del, eachName, get, kind, quote, set } from "./json";
export { asF64, fixed, integer } from "./number";
