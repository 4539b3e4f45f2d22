//! What the tests of this crate share: a patch applied as the updater does it, programs made by a
//! compiler, roots made by the builder.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use std::path::Path;
use std::process::Command;

use berth_chance::Random;
use berth_delta::{Chunk, ChunkError, Decoder, Limits, Patch, Prefix};
use berth_tree::{Kind, Metadata, Node, Spool, Tree};

/// The head of a patch that must be right.
pub fn parse(patch: &[u8]) -> Result<Patch, berth_delta::FormatError> {
    let limits = Limits::default();
    let prefix = Prefix::parse(patch, &limits)?;
    let end = Prefix::BYTES + prefix.head_bytes;
    let head = patch.get(Prefix::BYTES..end).unwrap_or_default().to_vec();
    Patch::parse(&prefix, head, limits)
}

/// A chunk's payload in a patch.
pub fn payload<'a>(patch: &'a [u8], chunk: &Chunk) -> &'a [u8] {
    let Some(payload) = chunk.kind.payload() else {
        return &[];
    };
    let start = payload.offset as usize;
    patch.get(start..start + payload.bytes).unwrap_or_default()
}

/// Applies a patch; the first chunk that fails ends it.
pub fn apply(patch: &[u8], mut old: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let mut decoder = Decoder::new(parse(patch)?);
    let mut new = Vec::new();
    for chunk in decoder.patch().chunks().to_vec() {
        let start = new.len();
        new.resize(start + chunk.bytes, 0);
        decoder.decode(
            chunk.index,
            payload(patch, &chunk),
            &mut old,
            &mut new[start..],
        )?;
    }
    Ok(new)
}

/// A patch between two versions, applied and compared.
pub fn round_trip(old: &[u8], new: &[u8]) -> Vec<u8> {
    let patch = berth_delta::encode::create(old, new).expect("create");
    assert!(apply(&patch, old).expect("apply") == new, "another result");
    patch
}

/// A program of many functions that call each other and share data. A later version has more and
/// other functions in between, so that everything behind them moves.
pub fn program(version: usize) -> Vec<u8> {
    let mut source = String::from("#include <stdio.h>\nextern int table[];\n");
    let functions = 400;
    for number in 0..functions {
        let added = version * usize::from(number % 37 == 5);
        for extra in 0..added {
            source += &format!(
                "__attribute__((noinline)) int more{number}_{extra}(int x) {{ printf(\"more {number} %d\\n\", x); return x * {extra} + table[{number}]; }}\n"
            );
        }
        let call = match number {
            0 => "x".to_owned(),
            _ => format!("f{}(x + {})", number - 1, number % 7),
        };
        let changed = if number % 53 == 9 { version } else { 0 };
        source += &format!(
            "__attribute__((noinline)) int f{number}(int x) {{ if (x > {number}) {{ puts(\"in {number}\"); return table[x & 255]; }} table[{number}] += {changed}; return {call}; }}\n"
        );
    }
    source += &format!("int table[{functions}];\nint (*all[])(int) = {{");
    for number in 0..functions {
        source += &format!("f{number},");
    }
    source += "};\nint main(int c, char **v) { return all[c](c); }\n";
    compile(&source, &["-O1"])
}

/// A program like a kernel: linked to the top 2 GiB, with variables that are not in the file, and
/// at its end the list of its absolute addresses. In a later version variables grow.
pub fn kernel(version: usize) -> Vec<u8> {
    let mut source = String::new();
    for number in 0..300 {
        let room = 40 + version * usize::from(number % 11 == 3) * (number + 1);
        source += &format!("static int state{number}[{room}];\n");
    }
    for number in 0..300 {
        let (second, third) = (number * 7 % 300, number * 13 % 300);
        source += &format!(
            "long f{number}(long x) {{
                if (state{number}[x] > 0x81482a04) state{second}[x] += x & 0x81490000;
                state{number}[x] += state{third}[x + 2];
                return (long)&state{second}[3] ^ state{third}[x + 1];
            }}\n"
        );
    }
    let options = [
        "-O1",
        "-ffreestanding",
        "-nostdlib",
        "-static",
        "-fno-pie",
        "-no-pie",
        "-mcmodel=kernel",
        "-fno-toplevel-reorder",
        "-Wl,-Ttext-segment=0xffffffff81000000",
        "-Wl,-e,f0",
    ];
    let relocations = compile(&source, &[&options[..], &["-Wl,--emit-relocs"]].concat());
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("a");
    std::fs::write(&file, relocations).expect("write");
    let listed = run(Command::new("readelf").arg("-rW").arg(&file));
    let mut places: Vec<u32> = String::from_utf8_lossy(&listed)
        .lines()
        .filter(|line| line.contains("R_X86_64_32"))
        .filter_map(|line| u64::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .map(|place| place as u32)
        .filter(|place| *place >= 0x8100_0000)
        .collect();
    places.sort_unstable();
    let mut kernel = compile(&source, &options);
    kernel.resize(kernel.len().next_multiple_of(4) + 4, 0);
    places
        .iter()
        .for_each(|place| kernel.extend(place.to_le_bytes()));
    kernel
}

fn compile(source: &str, options: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("a.c"), source).expect("write");
    run(Command::new("cc")
        .args(["-w", "-Wl,--build-id=none", "-o"])
        .args([at("a"), at("a.c")])
        .args(options));
    std::fs::read(at("a")).expect("read")
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .expect("cc and readelf run: install them with: apt-get install gcc libc6-dev binutils");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// An EROFS image of these files.
pub fn root(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut spool = Spool::new_in(Path::new(&std::env::temp_dir())).expect("spool");
    let mut tree = Tree::new(Metadata::system(0o755));
    for (path, bytes) in files {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        tree.create_dirs(parent.as_bytes(), &Metadata::system(0o755))
            .expect("directories");
        let content = spool.store(bytes).expect("store");
        let node = Node {
            kind: Kind::File(content),
            metadata: Metadata::system(0o644),
        };
        tree.insert(path.as_bytes(), node).expect("insert");
    }
    let mut image = Vec::new();
    berth_erofs::write(&tree, &spool, &mut image, &Default::default()).expect("write");
    image
}

/// A kernel payload as our builder packs it, in something like a boot image.
pub fn boot_image(content: &[u8], front: usize) -> Vec<u8> {
    const BLOCK: usize = 128 * 1024;
    let mut image = Random::from_seed(7).bytes(20_000);
    image.resize(20_000 + front, 0);
    image.extend([0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    image.extend((content.len() as u32).to_le_bytes());
    let count = content.chunks(BLOCK).count();
    for (index, block) in content.chunks(BLOCK).enumerate() {
        let header = (block.len() as u32) << 3 | u32::from(index + 1 == count);
        image.extend(&header.to_le_bytes()[..3]);
        image.extend(block);
    }
    image.extend(Random::from_seed(8).bytes(5000));
    image
}
