// Structs as C reads and writes them: a layout says what lies where, a codec reads and writes the structs of one table
// of layouts by their names. Only little-endian machines are built for (x86-64, arm64).

export type FieldType = "u8" | "u16" | "u32" | "i32" | "u64" | "bytes16";
export interface Layout {
  readonly size: number;
  readonly fields: Readonly<Record<string, readonly [offset: number, type: FieldType]>>;
}

type Types<L extends Layout> = {
  readonly [Field in keyof L["fields"]]: L["fields"][Field][1];
};
type Value<Type extends FieldType> = Type extends "bytes16"
  ? Uint8Array
  : Type extends "u64"
    ? number | bigint
    : number;
type Got<Type extends FieldType> = Type extends "bytes16" ? Uint8Array : number;
/** A struct as it is written. */
export type StructOf<L extends Layout> = {
  readonly [Field in keyof L["fields"]]: Value<Types<L>[Field]>;
};
/** A struct as it is read: 64-bit words as numbers, which hold nanoseconds since 1970 to 256 ns. */
export type DecodedOf<L extends Layout> = {
  readonly [Field in keyof L["fields"]]: Got<Types<L>[Field]>;
};

export function codecOf<const Table extends Readonly<Record<string, Layout>>>(table: Table) {
  return {
    /** Structs one after the other, as C reads an array; at least one byte, since ptr() of an empty array is an error. */
    encode<Name extends keyof Table>(name: Name, structs: readonly StructOf<Table[Name]>[]): Uint8Array {
      const layout = table[name] as Layout;
      const bytes = new Uint8Array(Math.max(1, structs.length * layout.size));
      const view = new DataView(bytes.buffer);
      const fields = Object.entries(layout.fields);
      structs.forEach((struct, index) => {
        const values = struct as Readonly<Record<string, number | bigint | Uint8Array>>;
        for (const [field, [offset, type]] of fields) {
          const value = values[field];
          if (value !== undefined) put(view, index * layout.size + offset, type, value);
        }
      });
      return bytes;
    },

    /** The struct at this offset of memory that C wrote. */
    decode<Name extends keyof Table>(name: Name, view: DataView, at = 0): DecodedOf<Table[Name]> {
      const layout = table[name] as Layout;
      const fields = Object.entries(layout.fields).map(([field, [offset, type]]) => [
        field,
        get(view, at + offset, type),
      ]);
      return Object.fromEntries(fields) as DecodedOf<Table[Name]>;
    },
  };
}

function put(view: DataView, at: number, type: FieldType, value: number | bigint | Uint8Array): void {
  if (typeof value === "bigint") {
    view.setBigUint64(at, value, true);
    return;
  }
  if (typeof value !== "number") {
    new Uint8Array(view.buffer, view.byteOffset + at, 16).set(value);
    return;
  }
  switch (type) {
    case "u8":
      view.setUint8(at, value);
      break;
    case "u16":
      view.setUint16(at, value, true);
      break;
    case "u32":
      view.setUint32(at, value, true);
      break;
    case "i32":
      view.setInt32(at, value, true);
      break;
    case "u64":
      view.setBigUint64(at, BigInt(value), true);
      break;
    case "bytes16":
      throw new TypeError("bytes16 wants 16 bytes");
  }
}

function get(view: DataView, at: number, type: FieldType): number | Uint8Array {
  switch (type) {
    case "u8":
      return view.getUint8(at);
    case "u16":
      return view.getUint16(at, true);
    case "u32":
      return view.getUint32(at, true);
    case "i32":
      return view.getInt32(at, true);
    case "u64":
      return Number(view.getBigUint64(at, true));
    case "bytes16":
      // A copy: the memory goes on changing.
      return new Uint8Array(view.buffer, view.byteOffset + at, 16).slice();
  }
}
