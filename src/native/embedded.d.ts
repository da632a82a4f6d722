// `import path from "…/libmcr.so" with { type: "file" }` gives the path of the embedded copy.
declare module "*.so" {
  const path: string;
  export default path;
}
